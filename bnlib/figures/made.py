"""What the records cost, and what made them, as Markdown tables."""

from pathlib import Path

from bnlib import report
from bnlib.studies import STUDIES

_COLUMNS = ("planned", "completed", "diverged", "missing")


def studies_table(root: Path) -> str:
    """A row for each study: its runs, and the hours they took."""
    rows, hours = [], 0.0
    for study in STUDIES.values():
        row = report.of_study(study, root)
        hours += row["hours"]
        counts = " | ".join(str(row[column]) for column in _COLUMNS)
        rows.append(f"| {study.name} | {study.about} | {counts} | {row['hours']:.2f} |")
    head = f"| study | what | {' | '.join(_COLUMNS)} | hours |\n|{'---|' * 7}"
    return "\n".join(
        [head, *rows, "", f"*In all {hours:.1f} hours, of one processor core or one GPU each. What has no runs waits to be measured.*"]
    )


def made_table(root: Path) -> str:
    """The hardware, the software, the images and the commits behind all records."""
    made = report.made_with([record for study in STUDIES.values() for record in study.done(root)])
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {'; '.join(values)} |" for name, values in made.items())])
