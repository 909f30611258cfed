"""Sphinx glue of the book: when a page is computed again, what is copied in, and what is put on each page."""

import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, files, version
from importlib.resources import as_file
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

# Without scripts: formulas as MathML in place of MathJax's, and no buttons that do nothing.
PLAIN = "<noscript><style>.math.notranslate, .article-header-buttons, .sidebar-toggle { display: none }</style></noscript>"
# What docutils does not know of TeX, and what comes near enough.
PLAINER = (
    (r"\\[bB]igg?[lrm]?(?![a-z])", ""),
    (r"\\dots(?![a-z])", r"\\ldots"),
    (r"\\operatorname", r"\\mathrm"),
    (r"{split}", "{aligned}"),
    (r"\\([td]?frac)(\d)(\d)", r"\\\1{\2}{\3}"),
)
# The theme and its toggle buttons note on the console what they do on every page.
SCRIPTS = ("explore-looks.js", "explore.js", "explore-tools.js")  # of the figures, in this order
QUIET = "{const log = console.log; console.log = (...args) => /^\\[(PST|togglebutton)\\]/.test(args[0]) || log(...args);}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("bnbook_inputs", [], "")
    for value in ("bnbook_foot", "bnbook_assets"):  # all pages are written again when one changes
        app.add_config_value(value, "", "html")
    app.connect("config-inited", prepare)
    app.connect("doctree-read", refuse_errors)
    app.connect("html-page-context", dress_page, priority=900)  # after the theme
    app.connect("build-finished", copy_records)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def prepare(app: Sphinx, config: Config) -> None:
    """Settings that depend on this machine and on this state of the sources."""
    root = Path(app.srcdir)
    # Inherited by the kernels: the figures of a page depend on the inputs below, and on no setting of whoever builds it.
    os.environ |= {"BNLIB_DISPLAY": "static", "BNLIB_RESULTS": str(root / "results"), "OMP_NUM_THREADS": "1"}
    os.environ.pop("BNLIB_DATA", None)

    # An execution is found again by its code alone, so each state of what the code reads gets a cache of its own. As a
    # changed setting, the new path also makes Sphinx read all pages again.
    caches, key = Path(app.outdir).parent / ".jupyter_cache", fingerprint(root, config.bnbook_inputs)
    config.nb_execution_cache_path = str(caches / key)
    for other in caches.glob("*"):
        if other.name != key:
            shutil.rmtree(other)

    plotly = resources("plotly") / "package_data" / "plotly.min.js"
    with as_file(plotly) as path:
        config.html_static_path += [str(path), str(mathjax())]
    config.bnbook_foot = foot(root)
    config.bnbook_assets = fingerprint(root, config.html_static_path)


def fingerprint(root: Path, inputs: Iterable[str]) -> str:
    """A hash of every input file, of Python's version and of those of the packages that requirements.txt names."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(path for name in inputs for path in visible(root / name)):
        content = path.read_bytes()
        digest.update(f"{os.path.relpath(path, root)} {len(content)}\n".encode() + content)
    for name in re.findall(r"^([\w.-]+)==", (root / "requirements.txt").read_text(), flags=re.MULTILINE):
        digest.update(f"{name}=={installed(name)}\n".encode())
    return digest.hexdigest()[:16]


def visible(path: Path) -> Iterator[Path]:
    """The file, or the files in the folder; neither hidden ones nor compiled ones."""
    if path.is_file():
        yield path
    elif path.is_dir() and path.name != "__pycache__":
        for inner in path.iterdir():
            if not inner.name.startswith("."):
                yield from visible(inner)


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def mathjax() -> Path:
    """The one file of MathJax that needs no other. The package's own extension would copy 24 MB."""
    found = [path for path in files("sphinx-mathjax-offline") or [] if path.name == "tex-svg-full.js"]
    return Path(str(found[0].locate()))


def foot(root: Path) -> str:
    """The line at the foot of each page."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else "unknown"

    commit = git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain"))
    built = f"bnlib {installed('bnlib')}, commit {commit}, built {date.today():%Y-%m-%d}"
    entries = html.escape(bibtex(yaml.safe_load((root / "CITATION.cff").read_text()), installed("bnlib"), commit))
    cite = f'<details class="bn-cite"><summary>Cite this book</summary><div class="highlight"><pre>{entries}</pre></div></details>'
    return f'<span class="bn-version">{built}</span>{cite}'


def bibtex(citation: dict[str, Any], version: str, commit: str) -> str:
    """The book and the paper that it reproduces, from CITATION.cff."""

    def authors(people: list[dict[str, str]]) -> str:
        return " and ".join(f"{{{one['name']}}}" if "name" in one else f"{one['family-names']}, {one['given-names']}" for one in people)

    def entry(kind: str, key: str, **fields: Any) -> str:
        return f"@{kind}{{{key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items()) + "}"

    book = entry(
        "software", "bnlib", author=authors(citation["authors"]), title=citation["title"], version=version, note=f"commit {commit}"
    )
    papers = [
        entry(
            "inproceedings",
            f"{paper['authors'][0]['family-names'].lower()}{paper['year']}",
            author=authors(paper["authors"]),
            title=paper["title"],
            booktitle=paper["collection-title"],
            volume=paper["volume"],
            pages=f"{paper['start']}--{paper['end']}",
            year=paper["year"],
        )
        for paper in citation["references"]
    ]
    return "\n\n".join([book, *papers])


def refuse_errors(app: Sphinx, doctree: nodes.document) -> None:
    """A figure that fails while it is being shown leaves a traceback on the page, but its cell counts as executed."""
    for node in doctree.findall(nodes.literal_block):
        if "traceback" in node["classes"]:
            raise ExtensionError(f"{app.env.docname} shows an error:\n{node.astext()}")


def dress_page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the foot under a page, the figures' scripts on a page that has figures, and take off what it does not use."""
    context["theme_extra_footer"] = app.config.bnbook_foot
    context["metatags"] = context.get("metatags", "") + PLAIN
    app.add_js_file(None, body=QUIET, priority=0)
    if body := context.get("body"):
        # bibtex's list has children of another role than a list's
        context["body"] = with_mathml(body).replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    if 'class="bnx"' in (body or ""):
        app.add_css_file("explore.css")
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer", priority=400)  # before MathJax, which takes longer
    if 'class="math ' not in (body or ""):
        context["script_files"][:] = [file for file in context["script_files"] if app.config.mathjax_path not in str(file.filename)]

    def of_thebe(file: Any) -> bool:  # declares the same constant twice, an error on every page, to load its script from elsewhere
        return "sphinx-thebe" in str(file.filename) or "THEBE_JS_URL" in str(file.attributes.get("body"))

    for kind in ("script_files", "css_files"):
        context[kind][:] = [file for file in context[kind] if not of_thebe(file)]


def with_mathml(body: str) -> str:
    """A page whose formulas stand in it a second time, as MathML, for browsers without scripts."""
    formula = re.compile(r'<(span|div) class="math notranslate nohighlight"[^>]*>(.*?)</\1>', re.DOTALL)

    def twice(found: re.Match[str]) -> str:
        return f"{found[0]}<noscript>{mathml(html.unescape(found[2]), block=found[1] == 'div')}</noscript>"

    return formula.sub(twice, body)


def mathml(tex: str, block: bool) -> str:
    """A formula of MathJax as MathML; as it is written where docutils cannot translate it."""
    number = "".join(f"({n})" for n in re.findall(r'class="eqno">\((\d+)\)', tex))
    tex = re.sub(r"<span.*?</span>", "", tex, flags=re.DOTALL).strip()
    tex = tex.removeprefix(r"\(").removesuffix(r"\)").removeprefix(r"\[").removesuffix(r"\]").strip()
    for unknown, known in PLAINER:
        tex = re.sub(unknown, known, tex)
    try:
        return tex2mathml(tex, as_block=block) + number
    except (MathError, AttributeError, SyntaxError):
        return f"<code>{html.escape(tex)}</code>{number}"


def copy_records(app: Sphinx, failure: Exception | None) -> None:
    """Copy the records that the figures link to."""
    results, copy = Path(app.srcdir) / "results", Path(app.outdir) / "_static" / "results"
    if failure is None and results.is_dir():
        if copy.exists():
            shutil.rmtree(copy)  # with records that are gone
        shutil.copytree(results, copy, ignore=shutil.ignore_patterns(".*"))
