"""The chapters of the book, the built pages, and the figures that their code makes."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from filelock import FileLock

import bnlib.explore
from bnlib.explore import Explorer

ROOT = Path(__file__).parent.parent
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


def explorers(page: str) -> dict[str, Explorer]:
    """The figures with controls of a page, by name, from running the page's code."""
    made: dict[str, Explorer] = {}
    explore = bnlib.explore.explore

    def remember(*args, **kwargs) -> Explorer:
        explorer = explore(*args, **kwargs)
        assert explorer.name not in made, f"{page} has two figures called {explorer.name}"
        made[explorer.name] = explorer
        return explorer

    notebook = ROOT / f"{page}.ipynb"
    if not notebook.exists():
        return made  # a page of prose
    code = "\n".join(cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bnlib.explore, "explore", remember)
        patch.chdir(notebook.parent)
        exec(compile(code, notebook.name, "exec"), {"__name__": "__main__"})
    return made
