"""Run All, live, in every chapter with a kernel of its own, from the book's folder and from another: `make test-chapters`.

Apart from `make test`, which executes every chapter as the book's build does, and two of them live (test_package.py).
"""

from pathlib import Path

import nbformat
import pytest
from chapters import PAGES, ROOT
from nbclient import NotebookClient

CHAPTERS = [page for page in PAGES if (ROOT / f"{page}.ipynb").exists()]


@pytest.mark.chapters
@pytest.mark.parametrize("away", [False, True], ids=["book", "elsewhere"])
@pytest.mark.parametrize("page", CHAPTERS)
def test_run_all(page: str, away: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("BNLIB_DISPLAY", "BNLIB_RESULTS", "BNLIB_DATA"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(ROOT / f"{page}.ipynb", as_version=4)
    folder = tmp_path / "another folder" if away else ROOT / "book"
    folder.mkdir(exist_ok=True)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert not away or not list(folder.iterdir()), "a chapter leaves nothing behind"
