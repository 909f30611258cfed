"""What the records cost, and what made them, as Markdown tables."""

import html
from pathlib import Path

from bnlib.studies import STUDIES
from bnlib.sweep import report


def studies_table(root: Path) -> str:
    """A row for each study: its runs, the command that makes them, and the hours they took."""
    rows, hours = [], 0.0
    for study in STUDIES.values():
        row = report.of_study(study, root)
        hours += row["hours"]
        counts = f"{row['planned'] - row['missing']} of {row['planned']}" + f", {row['diverged']} diverged" * (row["diverged"] > 0)
        failed = f", {row['failed']} failed" * (row["failed"] > 0)
        about = study.about.replace("|", r"\|")  # a bar would end the cell
        rows.append(f"| **{study.name}** {about}<br>`bnlib sweep {study.name}` | {counts}{failed} | {row['hours']:.2f} |")
    head = "| study | runs made | hours |\n|---|---|---|"
    return "\n".join(
        [head, *rows, "", f"*In all {hours:.1f} hours, of one processor core or one GPU each. What has no runs waits to be measured.*"]
    )


def made_table(root: Path) -> str:
    """The hardware, software, images, commits and days behind all records; the studies of each, where there are several."""
    found = [record for study in STUDIES.values() for record in study.done(root)]
    every = sorted({record.config.study for record in found})

    def shown(values: dict[str, list[str]]) -> str:
        values = {html.escape(value).replace("|", r"\|"): studies for value, studies in values.items()}  # of records from elsewhere, too
        if len(values) == 1:
            return next(iter(values))
        return "; ".join(f"**{value}** {'all' if studies == every else ', '.join(studies)}" for value, studies in values.items())

    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {shown(values)} |" for name, values in report.made_with(found).items())])
