"""What a rerunner waits for: Run All in each chapter, live, one after the other, each in a kernel of its own.

    python bench/notebooks.py [--rounds 3]

From starting the kernel to the last cell's answer. Figures are widgets, as in JupyterLab, but no page draws them. Prints the section of
bench/README.md.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from chapters import PAGES, ROOT

from bnlib import provenance


def run_all(chapter: Path) -> tuple[float, float]:
    """Seconds that Run All takes, and its slowest cell."""
    notebook = nbformat.read(chapter, as_version=4)
    began = time.perf_counter()
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(chapter.parent)}}).execute()
    whole = time.perf_counter() - began
    times = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            told = cell.metadata.execution
            busy, reply = (datetime.fromisoformat(told[key]) for key in ("iopub.status.busy", "shell.execute_reply"))
            times.append((reply - busy).total_seconds())
    return whole, max(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for name in ("BNLIB_DISPLAY", "BNLIB_RESULTS", "BNLIB_DATA"):
        os.environ.pop(name, None)
    chapters = [path for page in PAGES if (path := ROOT / f"{page}.ipynb").exists()]
    seen = {path: [run_all(path) for _ in range(rounds)] for path in chapters}
    hardware, versions = provenance.hardware(), provenance.env()
    print("## Chapters: Run All\n")
    print(f"{time.strftime('%Y-%m-%d')}; {hardware['name']}, {hardware['cores']} cores; threads: {versions['threads']};")
    print(f"torch {versions['torch']}, python {versions['python']}. Median [least, most] of {rounds} rounds. Wanted: 120 s in all.\n")
    print("| chapter | Run All, s | of it the slowest cell, s |\n|---|---|---|")
    for path, runs in seen.items():
        whole, cell = zip(*runs, strict=True)
        print(f"| {path.stem} | {shown(whole)} | {shown(cell)} |")
    print(f"| all | {shown([sum(runs[k][0] for runs in seen.values()) for k in range(rounds)])} | |")
    print(f"\nMade by `python bench/notebooks.py`. Load of the machine at the end: {os.getloadavg()[0]:.1f} processes.")


def shown(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} [{min(seconds):.1f}, {max(seconds):.1f}]"


if __name__ == "__main__":
    main()
