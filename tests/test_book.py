"""The book's build notices what its pages depend on; its pages work from a folder, alone."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from browser import Watched, wait_drawn
from chapters import JUPYTER_BOOK, PAGES, ROOT, explorers
from playwright.sync_api import Page

from bnlib.explore import Explorer
from bnlib.explore.controls import Control
from bnlib.figures.style import SERIES

sys.path.append(str(ROOT / "book" / "_ext"))
import bnbook
import numbering
import portable


class TinyBook:
    """A book of one page in a folder of its own, built with the real book's configuration and extension."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = yaml.safe_load((ROOT / "_config.yml").read_text())
        config["sphinx"]["local_extensions"] = dict.fromkeys(("bnbook", "bnapi"), str(ROOT / "book" / "_ext"))
        config["sphinx"]["config"] |= {
            "include_patterns": ["page.ipynb"],
            "bnbook_inputs": ["toy", "results", "requirements.txt"],
            "bibtex_bibfiles": [str(ROOT / "book" / "references.bib")],
            "html_static_path": [str(ROOT / "book" / "_assets")],
        }
        self.write("_config.yml", yaml.safe_dump(config))
        self.write("_toc.yml", "{format: jb-book, root: page}")
        self.write("requirements.txt", "numpy==1.0\nnot-there==1.0\n")
        self.write("CITATION.cff", (ROOT / "CITATION.cff").read_text())
        self.write("toy/__init__.py", "CONSTANT = 1\n")
        self.write("results/study/run.json", "[1]")
        self.cell(
            "import os, sys, time, pathlib, toy; from IPython.display import Markdown",
            "Markdown(f\"constant {toy.CONSTANT} record {pathlib.Path('results/study/run.json').read_text()} at {time.time_ns()} \""
            " f\"static {os.environ['BNLIB_DISPLAY']} data {os.environ.get('BNLIB_DATA')}\")",
        )

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def cell(self, *lines: str) -> None:
        cells = [nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell("\n".join(lines))]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), self.folder / "page.ipynb")

    def build(self) -> subprocess.CompletedProcess:
        command = [JUPYTER_BOOK, "build", ".", "-W", "--keep-going"]
        return subprocess.run(
            command, cwd=self.folder, env=os.environ | {"BNLIB_DATA": "mine"}, capture_output=True, text=True, check=False
        )

    def page(self) -> str:
        """What the built page says."""
        done = self.build()
        assert done.returncode == 0, done.stdout + done.stderr
        return re.search(r"constant \d.*", (self.folder / "_build" / "html" / "page.html").read_text())[0]


@pytest.fixture
def book(tmp_path: Path) -> TinyBook:
    return TinyBook(tmp_path)


def test_a_page_follows_what_it_is_computed_from(book: TinyBook):
    first = book.page()
    assert first.startswith("constant 1 record [1] at ")
    assert "static static data None" in first, "the builder's own settings stay out"
    assert book.page() == first, "nothing changed, so nothing was executed"
    book.write("toy/__init__.py", "CONSTANT = 2\n")
    second = book.page()
    assert second.startswith("constant 2 record [1] at ")
    book.write("results/study/run.json", "[2]")
    third = book.page()
    assert third.startswith("constant 2 record [2] at ")
    assert (book.folder / "_build/html/_static/results/study/run.json").read_text() == "[2]"
    assert len(list((book.folder / "_build" / ".jupyter_cache").iterdir())) == 1, "old results are thrown away"


def test_figures_are_numbered_and_a_reference_to_none_fails(book: TinyBook):
    figure = '<figure class="bnx" id="{}" style="">'
    body = f"{figure.format('one')}{figure.format('two')}" + '<a class="bn-ref" href="#two"></a>'
    assert numbering.numbered(body, "page").count('<span class="bnx-number">Figure\N{NO-BREAK SPACE}') == 2
    assert '<a class="bn-ref" href="#two">Figure\N{NO-BREAK SPACE}2</a>' in numbering.numbered(body, "page")
    waiting = body + '<a class="bn-ref" href="#three"></a>'
    assert "the figure that is not measured yet" in numbering.numbered(waiting, "page", json.dumps('explore(draw, name="three")'))
    for text, message in (("three", "page refers to a figure three; it has none"), ("Two words", "give the name of a figure of this page")):
        cells = [nbformat.v4.new_markdown_cell(f"# A page\n\nSee {{fig}}`{text}`.")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), book.folder / "page.ipynb")
        done = book.build()
        assert done.returncode != 0
        assert message in done.stderr


def test_launch_buttons_come_with_the_repositorys_address(book: TinyBook):
    links = (
        "mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/page.ipynb",
        "colab.research.google.com/github/owner/name/blob/main/page.ipynb",
    )
    book.page()
    page = book.folder / "_build" / "html" / "page.html"
    assert not re.search("mybinder|colab|github.com", page.read_text())
    config = yaml.safe_load((book.folder / "_config.yml").read_text())
    book.write("_config.yml", yaml.safe_dump(config | {"repository": {"url": "https://github.com/owner/name"}}))
    book.page()
    assert [link for link in links if link not in page.read_text()] == []
    assert 'href="https://github.com/owner/name/issues' in page.read_text()


@pytest.mark.parametrize("name", PAGES)
def test_a_chapter_has_launch_buttons_or_says_why_not(name: str, built: Path):
    text, chapter = (built / f"{name}.html").read_text(), (ROOT / f"{name}.ipynb").exists()
    address = bool(portable.repository(ROOT))
    assert ("Launch buttons need the repository's address, and none is configured." in text) == (chapter and not address)
    assert bool(re.search("mybinder|colab", text)) == (chapter and address)


def test_the_line_on_launch_buttons_goes_with_the_repositorys_address():
    def line(notebook: str, **config: Any) -> str:
        context = {"sourcename": notebook, "pathto": lambda place, _: place}
        return bnbook.rerun_line(SimpleNamespace(config=SimpleNamespace(**config)), "book/setting", context)

    without = line("setting.ipynb", bnbook_wheel="b.whl", bnbook_repository={})
    configured = line("setting.ipynb", bnbook_wheel="b.whl", bnbook_repository={"url": "https://github.com/owner/name"})
    assert without == f"{configured} Launch buttons need the repository's address, and none is configured."
    assert 'href="_sources/book/setting.ipynb"' in configured
    assert 'href="_static/b.whl"' in configured
    assert line("changes.md", bnbook_wheel="b.whl", bnbook_repository={}) == ""


def test_the_key_follows_every_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def key() -> str:
        return bnbook.fingerprint(tmp_path, ["toy", "results", "requirements.txt"])

    book = TinyBook(tmp_path)
    keys = [key()]
    book.write("toy/__pycache__/toy.pyc", "compiled")
    book.write("results/study/.run.json.tmp", "half written")
    assert key() == keys[0], "neither compiled nor hidden files count"
    for name, text in (("toy/inner/data.json", ""), ("results/study/run2.json", "[1]"), ("requirements.txt", "numpy==1.0\n")):
        book.write(name, text)
        keys.append(key())
    (tmp_path / "results/study/run2.json").rename(tmp_path / "results/study/run3.json")
    keys.append(key())
    monkeypatch.setattr(bnbook, "version", lambda name: "of another environment")
    keys.append(key())
    assert len(set(keys)) == 6


def test_a_figure_that_fails_while_it_is_shown_fails_every_build(book: TinyBook):
    book.cell("class Broken:", "    def _repr_html_(self):", "        raise ValueError('cannot be drawn')", "Broken()")
    for _ in range(2):  # the second build finds the page executed
        done = book.build()
        assert done.returncode != 0
        assert "page shows an error" in done.stderr
        assert "cannot be drawn" in done.stderr


def test_the_first_page_leads_into_the_book(built: Path, open_page: Callable[..., Watched]):
    watched = open_page((built / "index.html").as_uri())
    watched.page.wait_for_url(f"**/{PAGES[0]}.html")
    assert re.search(r"bnlib \S+, commit \S+, built \d{4}-\d\d-\d\d", watched.page.locator("footer.bd-footer-content").inner_text())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_from_its_folder_alone(name: str, built: Path, open_page: Callable[..., Watched]):
    figures = explorers(name)
    assert sum(figure.size for figure in figures.values()) < 400_000, "bytes of a page's own data"
    for figure in figures.values():
        check(figure)
    watched = open_page((built / f"{name}.html").as_uri(), viewport={"width": 1280, "height": 720})
    page = watched.page
    assert page.locator(".bnx").evaluate_all("blocks => blocks.map(block => block.id)") == list(figures)
    assert page.locator(".bnx-number").all_inner_texts() == [f"Figure\N{NO-BREAK SPACE}{k + 1}" for k in range(len(figures))]
    for link in page.locator(".bn-ref").all():
        referred = str(link.get_attribute("href")).removeprefix("#")
        assert link.inner_text() == page.locator(f"#{referred} .bnx-number").inner_text()
    if figures and name != PAGES[0]:
        assert page.locator(".admonition-title", has_text="Takeaway").count() == 1
    assert page.locator(".page-toc .toc-h2 > a:visible").count() == page.locator("article h2").count()
    for figure in figures.values():
        page.locator(f"#{figure.name}").scroll_into_view_if_needed()
        start = [c.start for c in figure.controls]
        for i, control in enumerate(figure.controls):
            last = len(control.values) - 1
            for stop in [*range(last + 1), control.start]:
                stops = [*start[:i], stop, *start[i + 1 :]]
                set_control(page, figure, control, stop)
                wait_drawn(page, figure.name, ",".join(map(str, stops)))
                if stop in (0, last // 2, last):
                    assert uncoloured(drawn(page, figure.name)) == expected(figure, stops)
    assert not lacking(page), "these have no text alternative or label"
    assert not lost(page), "these links lead nowhere"
    watched.check()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_leads_on_and_back_and_lists_its_sections(name: str, built: Path):
    text, number = (built / f"{name}.html").read_text(), PAGES.index(name)
    beside = [("left-prev", PAGES[number - 1])] * (number > 0) + [("right-next", page) for page in PAGES[number + 1 : number + 2]]
    assert re.findall(r'<a class="(left-prev|right-next)"\s+href="([^"]+)"', text) == [
        (way, f"{Path(page).name}.html") for way, page in beside
    ]
    contents = text.partition('id="pst-page-toc-nav"')[2]
    sections = re.findall(r'<section id="([^"]+)">\s*(?:<span[^>]*></span>\s*)*<h2', text)
    assert re.findall(r'<li class="toc-h2 [^>]*><a class="reference internal nav-link" href="#([^"]+)"', contents) == sections
    assert sections or name == "book/references"


BLUE, VERMILION = SERIES["batch"].colour, SERIES["none"].colour


def check(figure: Explorer) -> None:
    """Few controls, a source, a name for all that is drawn, and BN told from none by more than its colour."""
    assert len(figure.controls) <= 3
    assert figure.source is not None
    strong: dict[tuple, dict[str, set]] = {}
    for trace in figure.document()["data"]:
        assert trace.get("name"), f"a reader of the numbers of {figure.name} needs a name for each trace"
        line, marker = trace.get("line", {}), trace.get("marker", {})
        colour = line.get("color", marker.get("color"))
        row = len(set(trace.get("y", ()))) == 1  # of a kind, and named at its side
        if colour in (BLUE, VERMILION) and trace.get("opacity", 1) > 0.6 and trace["type"] == "scatter" and not row:
            look = (trace["mode"], line.get("dash") if "lines" in trace["mode"] else None, str(marker.get("symbol")))
            strong.setdefault((trace.get("xaxis"), trace.get("yaxis")), {}).setdefault(colour, set()).add(look)
    for looks in strong.values():
        assert not looks.get(BLUE, set()) & looks.get(VERMILION, set()), f"{figure.name} tells BN from none by colour alone"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(name: str, built: Path, open_page: Callable[..., Watched]):
    watched = open_page((built / f"{name}.html").as_uri(), viewport={"width": 360, "height": 740}, has_touch=True)
    page = watched.page
    for block in page.locator(".bnx").all():
        block.scroll_into_view_if_needed()
        wait_drawn(page, str(block.get_attribute("id")))
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    watched.check()


def set_control(page: Page, figure: Explorer, control: Control, stop: int) -> None:
    field = page.locator(f"#{figure.name}-{control.name}")
    if control.kind == "toggle":
        field.set_checked(bool(stop))
    elif control.kind == "menu":
        field.select_option(index=stop)
    else:
        field.fill(str(stop))


def drawn(page: Page, name: str) -> list:
    return json.loads(page.locator(f"#{name} .bnx-plot").evaluate("plot => JSON.stringify(plot.data)"))


def expected(figure: Explorer, stops: Sequence[int]) -> list:
    """The data as Python draws them, but for colours, which the page fits to its theme."""
    state = {control.name: control.values[stop] for control, stop in zip(figure.controls, stops, strict=True)}
    return uncoloured(json.loads(json.dumps(figure.document(**state)["data"])))


def uncoloured(part: Any) -> Any:
    """`part` without the colours in it that are given by name; those that stand for numbers stay."""
    if isinstance(part, list):
        return [uncoloured(one) for one in part]
    if not isinstance(part, dict):
        return part
    named = {key for key, value in part.items() if key == "color" and isinstance(value[0] if isinstance(value, list) else value, str)}
    return {key: uncoloured(value) for key, value in part.items() if key not in named}


def lacking(page: Page) -> list[str]:
    """Pictures without a text alternative, inputs without a label."""
    return page.evaluate("""() => {
        const all = (what) => [...document.querySelectorAll(`.bd-article :is(${what})`)];
        const named = (e) => document.getElementById(e.getAttribute("aria-labelledby"))?.textContent;
        const text = (e) => e.alt || e.ariaLabel || e.querySelector(":scope > title")?.textContent || named(e);
        const pictures = all("img, svg, canvas, [role=img]")
            .filter((e) => !e.closest("[aria-hidden=true], mjx-container") && !e.parentElement.closest("svg, [role=img], button"))
            .filter((e) => !text(e)?.trim());
        const inputs = all("input, select, textarea").filter((e) => !e.labels.length && !e.ariaLabel);
        return [...pictures, ...inputs].map((e) => e.outerHTML.slice(0, 200));
    }""")


def lost(page: Page) -> list[str]:
    """Links within the book whose file, or whose place in the page, does not exist."""
    links = page.locator("a[href]").evaluate_all("links => links.map(link => link.href)")
    anchors = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    here = Path(unquote(urlsplit(page.url).path))

    def leads(link: str) -> bool:
        path, place = Path(unquote(urlsplit(link).path)), unquote(urlsplit(link).fragment)
        if not place or ":" in place:
            return path.exists()
        return place in (anchors if path == here else places(path))

    return [link for link in links if link.startswith("file:") and not leads(link)]


@cache
def places(page: Path) -> set[str]:
    """The places of a page that a link may name; none where there is no page."""
    return set(re.findall(r' id="([^"]+)"', page.read_text())) if page.exists() else set()
