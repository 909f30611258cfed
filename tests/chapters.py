"""The chapters of the book, the built pages, and the figures that their code makes."""

import inspect
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from filelock import FileLock

import bnlib.explore
from bnlib import claims
from bnlib.explore import Explorer

ROOT = Path(__file__).parent.parent
JUDGES = [
    name for name in claims.__all__
    if inspect.isfunction(function := getattr(claims, name))
    and typing.get_type_hints(function)["return"] is claims.Verdict
    and name not in ("judge", "pending")
]  # fmt: skip
"""The functions that judge a claim."""
_TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [_TOC["root"], *(chapter["file"] for chapter in _TOC["chapters"])]
"""The pages in reading order, such as "book/setting"."""


JUPYTER_BOOK = Path(sys.executable).with_name("jupyter-book")


@pytest.fixture(scope="session")
def built() -> Path:
    """The real book, as `make book` builds it. With several workers the first one builds."""
    (ROOT / "_build").mkdir(exist_ok=True)
    command = ["make", "--old-file=.venv/.ready", f"BIN={JUPYTER_BOOK.parent}", "book"]
    with FileLock(ROOT / "_build" / ".lock"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "_build" / "html"


def run(page: str, **instead: Callable) -> None:
    """Run the code of a page, if it has any, with some functions replaced, such as `**{"bnlib.claims.law_holds": other}`."""
    notebook = ROOT / f"{page}.ipynb"
    if not notebook.exists():
        return  # a page of prose
    code = "\n".join(cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code")
    with pytest.MonkeyPatch.context() as patch:
        for name, function in instead.items():
            patch.setattr(name, function)
        patch.chdir(notebook.parent)
        exec(compile(code, notebook.name, "exec"), {"__name__": "__main__"})


def explorers(page: str) -> dict[str, Explorer]:
    """The figures with controls of a page, by name, from running the page's code."""
    made: dict[str, Explorer] = {}
    explore = bnlib.explore.explore

    def remember(*args, **kwargs) -> Explorer:
        explorer = explore(*args, **kwargs)
        assert explorer.name not in made, f"{page} has two figures called {explorer.name}"
        made[explorer.name] = explorer
        return explorer

    run(page, **{"bnlib.explore.explore": remember})
    return made


def verdicts(page: str) -> dict[str, list[claims.Verdict]]:
    """What the functions of `bnlib.claims` that judge a claim return while the page's code runs."""
    given: dict[str, list[claims.Verdict]] = {}

    def remembering(name: str) -> Callable:
        judge = getattr(claims, name)

        def judged(*args) -> claims.Verdict:
            given.setdefault(name, []).append(judge(*args))
            return given[name][-1]

        return judged

    run(page, **{f"bnlib.claims.{name}": remembering(name) for name in JUDGES})
    return given
