"""Chapters that work away from this checkout: bnlib as a wheel with its records, and a first cell that installs it where it is missing.

python book/_ext/portable.py    after the repository's address in _config.yml was set, changed or taken out: Colab opens the
                                committed notebooks, so they get that first cell, or lose it
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import yaml

# What the wheel is made of.
PARTS = ("bnlib", "results", "pyproject.toml", "setup.py", "README.md", "LICENSE", "book/claims.yml", "book/verdicts.json")
CELL = "install-bnlib"
_SOURCE = """\
# Installs bnlib, with the records that its figures are drawn from, where it is missing.
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("bnlib") is None:
    beside, address = Path("{wheel}"), "{address}"
    if not (source := str(beside) if beside.exists() else address):
        raise ModuleNotFoundError(f"bnlib is missing: save {{beside}}, linked at the foot of the chapter's page, beside this notebook")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)
    importlib.invalidate_caches()
"""


def wheel(root: Path, folder: Path) -> Path:
    """Build the wheel of the checkout `root` into `folder`, which may be one that holds it already. The checkout stays as it is."""
    if not (found := list(folder.glob("*.whl"))):
        with tempfile.TemporaryDirectory() as scratch:
            source, out = Path(scratch) / "source", Path(scratch) / "wheel"
            source.mkdir()
            for part in PARTS:
                if (root / part).is_dir():
                    shutil.copytree(root / part, source / part, ignore=shutil.ignore_patterns(".*", "__pycache__"))
                else:
                    (source / part).parent.mkdir(exist_ok=True)
                    shutil.copy(root / part, source / part)
            command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"the wheel of bnlib cannot be built:\n{done.stdout}{done.stderr}")
            folder.mkdir(parents=True, exist_ok=True)
            found = [Path(shutil.copy(path, folder)) for path in out.glob("*.whl")]
    return found[0]


def repository(root: Path) -> dict[str, str]:
    """The address and the branch of the repository, as `_config.yml` gives them; empty where it gives none."""
    given = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")).get("repository") or {}
    return {"url": given["url"].rstrip("/"), "branch": given.get("branch", "main")} if given.get("url") else {}


def source(wheel_name: str, baseurl: str, repo: dict[str, str]) -> str:
    """What pip is to install: the wheel at the book's own address, else the repository, else nothing."""
    if baseurl and wheel_name:
        return f"{baseurl.rstrip('/')}/_static/{wheel_name}"
    return f"bnlib @ git+{repo['url']}@{repo['branch']}" if repo else ""


def with_cell(notebook: Any, wheel_name: str, address: str) -> Any:
    """The notebook with the cell that installs bnlib from the wheel beside it, else from `address`; with none where both are empty."""
    notebook.cells = [cell for cell in notebook.cells if cell.get("id") != CELL]
    if wheel_name or address:
        text = _SOURCE.format(wheel=wheel_name or "bnlib.whl", address=address).rstrip()
        notebook.cells.insert(0, nbformat.v4.new_code_cell(text, id=CELL, metadata={"tags": ["remove-cell"]}))
    return notebook


def rewrite(notebook: Path, target: Path, wheel_name: str, address: str) -> None:
    """Write `notebook` as `target`, with the first cell that `with_cell` gives it."""
    content = with_cell(nbformat.read(notebook, as_version=4), wheel_name, address)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(nbformat.writes(content).rstrip("\n") + "\n", encoding="utf-8")


def committed(root: Path) -> list[Path]:
    """The chapters whose first cell is not the one that the repository's address asks for."""
    address = source("", "", repository(root))
    chapters = sorted((root / "book").glob("*.ipynb"))
    read = {path: nbformat.read(path, as_version=4) for path in chapters}
    return [path for path, content in read.items() if content != with_cell(nbformat.read(path, as_version=4), "", address)]


if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[2]
    for path in committed(ROOT):
        rewrite(path, path, "", source("", "", repository(ROOT)))
        print(path)
