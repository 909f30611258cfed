"""Sphinx glue of the book: when a page is computed again, what is copied in, and what is put on each page."""

import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, files, version
from importlib.resources import as_file
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import citing
import formulas
import judging
import numbering
import portable
import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

# Where the repository's address is configured, a chapter can be opened there and changed.
LAUNCH = {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}

# Without scripts: formulas as MathML in place of MathJax's, and no buttons that do nothing.
PLAIN = "<noscript><style>.math.notranslate, .article-header-buttons, .sidebar-toggle { display: none }</style></noscript>"
SCRIPTS = ("explore-looks.js", "explore-sheets.js", "explore.js", "explore-tools.js")  # of the figures, in this order
CHECKS = '<div id="bn-checks"></div>'  # where a page asks for them
# The theme and its toggle buttons note on the console what they do on every page.
QUIET = "{const log = console.log; console.log = (...args) => /^\\[(PST|togglebutton)\\]/.test(args[0]) || log(...args);}"

# A page from the disk may not read another: what is found then has no excerpt, rather than an error for each.
UNREAD = "DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY &&= location.protocol !== 'file:';"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("bnbook_inputs", [], "")
    for value in ("bnbook_repository", "bnbook_ledger"):
        app.add_config_value(value, {}, "html")
    for value in ("bnbook_foot", "bnbook_assets", "bnbook_wheel", "bnbook_checks"):  # all pages are written again when one changes
        app.add_config_value(value, "", "html")
    app.add_role("fig", numbering.reference)
    app.connect("config-inited", prepare)
    app.connect("doctree-read", refuse_errors)
    app.connect("html-page-context", dress_page, priority=900)  # after the theme
    app.connect("build-finished", copy_records)
    app.connect("build-finished", copy_chapters)
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

    if (root / "pyproject.toml").exists():  # a book of bnlib
        built = portable.wheel(root, caches.with_name(".wheel") / fingerprint(root, portable.PARTS))
        for old in built.parent.parent.iterdir():
            if old != built.parent:
                shutil.rmtree(old)
        config.bnbook_wheel = built.name
        config.html_static_path += [str(built)]
    config.bnbook_repository = portable.repository(root)
    if config.bnbook_repository:
        buttons = {"use_repository_button": True, "use_issues_button": True, "launch_buttons": LAUNCH}
        config.html_theme_options |= buttons | {"repository_branch": config.bnbook_repository["branch"]}

    plotly = resources("plotly") / "package_data" / "plotly.min.js"
    with as_file(plotly) as path:
        config.html_static_path += [str(path), str(mathjax())]
    config.bnbook_foot = foot(root)
    if (root / "book" / "claims.yml").exists():
        judged, same = ask("claims")
        config.bnbook_ledger = {claim["claim"]: (claim["id"], claim["verdict"]) for claim in judged}
        config.bnbook_checks = checks(root, judged, same)
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


def committed(root: Path) -> str:
    """The commit, with a + where the files differ from it; empty where there is none."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain"))


def foot(root: Path) -> str:
    """The line at the foot of each page."""
    commit = committed(root)
    built = f"bnlib {installed('bnlib')}, commit {commit or 'unknown'}, built {date.today():%Y-%m-%d}"
    entries = html.escape(citing.bibtex(yaml.safe_load((root / "CITATION.cff").read_text()), installed("bnlib"), commit or "unknown"))
    cite = f'<details class="bn-cite"><summary>Cite this book</summary><div class="highlight"><pre>{entries}</pre></div></details>'
    return f'<span class="bn-version">{built}</span>{cite}'


def ask(command: str) -> tuple[Any, bool]:
    """What `bnlib verify` or `bnlib claims` prints at this build, and whether it finds all as it was."""
    done = subprocess.run([sys.executable, "-m", "bnlib", command, "--json"], capture_output=True, text=True, check=False)
    if not done.stdout:
        raise ExtensionError(f"bnlib {command} failed:\n{done.stderr}")
    return json.loads(done.stdout), done.returncode == 0


def checks(root: Path, judged: list[dict[str, Any]], same: bool) -> str:
    """The panel of the page on how the numbers were made: what the records and the verdicts are at this build, and what builds it."""
    verified, sound = ask("verify")
    words = Counter(claim["verdict"] for claim in judged)
    days = sorted(set(re.findall(r'"start": "([\d-]{10})T', "".join(path.read_text() for path in (root / "results").rglob("*.json")))))
    commit = committed(root)
    rows = [
        ("records", f"{verified['records']} read and verified, {len(verified['problems'])} problems", sound),
        ("verdicts", f"{len(judged)} claims judged anew: " + ", ".join(f"{n} {word}" for word, n in words.most_common()), True),
        ("since last looked at", "no verdict has changed" if same else "a verdict has changed", same),
        ("measured", f"from {days[0]} to {days[-1]}" if days else "nothing", bool(days)),
        ("built", f"{date.today():%Y-%m-%d}, from commit {commit or 'unknown'}" + ", with changes" * commit.endswith("+"), bool(commit)),
        ("software", ", ".join(f"{name} {installed(name)}" for name in ("bnlib", "torch", "numpy", "plotly", "jupyter-book")), True),
    ]
    cells = "".join(f"<tr><th>{'✓' if good else '✗'} {name}</th><td>{html.escape(text)}</td></tr>" for name, text, good in rows)
    return f'<table class="table bn-checks"><tbody>{cells}</tbody></table>'


def refuse_errors(app: Sphinx, doctree: nodes.document) -> None:
    """A figure that fails while it is being shown leaves a traceback on the page, but its cell counts as executed."""
    for node in doctree.findall(nodes.literal_block):
        if "traceback" in node["classes"]:
            raise ExtensionError(f"{app.env.docname} shows an error:\n{node.astext()}")


def dress_page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the foot under a page, the figures' scripts on a page that has figures, and take off what it does not use."""
    context["theme_extra_footer"] = app.config.bnbook_foot + rerun_line(app, pagename, context)
    context["metatags"] = context.get("metatags", "") + PLAIN
    app.add_js_file(None, body=QUIET, priority=0)
    if pagename == "search":
        app.add_js_file(None, body=UNREAD)
    if body := context.get("body"):
        # bibtex's list has children of another role than a list's
        notebook = Path(app.srcdir) / f"{pagename}.ipynb"
        source = notebook.read_text(encoding="utf-8") if notebook.exists() else ""
        body = numbering.numbered(body.replace(CHECKS, app.config.bnbook_checks), pagename, source)
        body = judging.linked(body, pagename, app.config.bnbook_ledger, context["pathto"]("book/verdicts"))
        context["body"] = formulas.with_mathml(body).replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    if 'class="bn-ledger"' in (body or ""):
        app.add_js_file("verdicts.js", loading_method="defer")
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


def rerun_line(app: Sphinx, pagename: str, context: dict[str, Any]) -> str:
    """How to run this page oneself; where there are no launch buttons, why."""
    if not app.config.bnbook_wheel or not str(context.get("sourcename", "")).endswith(".ipynb"):
        return ""
    notebook, wheel = (context["pathto"](place, 1) for place in (f"_sources/{pagename}.ipynb", f"_static/{app.config.bnbook_wheel}"))
    why = "" if app.config.bnbook_repository else " Launch buttons need the repository's address, and none is configured."
    return (
        f'<br>Run this chapter anywhere: <a href="{notebook}" download>the notebook</a> and, beside it, '
        f'<a href="{wheel}" download>bnlib with its records</a>.{why}'
    )


def copy_chapters(app: Sphinx, failure: Exception | None) -> None:
    """Give the notebooks that are downloaded from the pages a first cell that installs bnlib."""
    if failure is None and app.config.bnbook_wheel:
        address = portable.source(app.config.bnbook_wheel, app.config.html_baseurl, app.config.bnbook_repository)
        for copy in (Path(app.outdir) / "_sources").rglob("*.ipynb"):
            original = Path(app.srcdir) / copy.relative_to(Path(app.outdir) / "_sources")
            if original.exists():  # else the page is gone
                portable.rewrite(original, copy, app.config.bnbook_wheel, address)


def copy_records(app: Sphinx, failure: Exception | None) -> None:
    """Copy the records that the figures link to."""
    results, copy = Path(app.srcdir) / "results", Path(app.outdir) / "_static" / "results"
    if failure is None and results.is_dir():
        if copy.exists():
            shutil.rmtree(copy)  # with records that are gone
        shutil.copytree(results, copy, ignore=shutil.ignore_patterns(".*"))
