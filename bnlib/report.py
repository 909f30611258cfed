"""What each study has come to, and with what it was made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnlib import provenance, worker
from bnlib.records import Record
from bnlib.studies import Study
from bnlib.sweep import estimate


def of_study(study: Study, root: Path) -> dict[str, Any]:
    """Runs planned, completed, diverged, failed and missing; hours spent, and to go on this machine (None where unknown); hardware."""
    done, missing = study.done(root), study.missing(root)
    kinds = [record.status.partition("@")[0] for record in done]
    here = provenance.hardware(worker.resolve("auto" if study.measure is None else "cpu"))["name"]
    seconds = [estimate(study, run, [record for record in done if record.hardware["name"] == here]) for run in missing]
    known = [estimate for estimate in seconds if estimate is not None]
    return {
        "study": study.name,
        "planned": len(done) + len(missing),
        **{kind: kinds.count(kind) for kind in ("completed", "diverged", "failed")},
        "missing": len(missing),
        "hours": round(sum(record.time["seconds"] for record in done) / 3600, 3),
        "hours_left": round(sum(known) / 3600, 3) if len(known) == len(seconds) else None,
        "hardware": sorted({record.hardware["name"] for record in done}),
    }


def made_with(records: Sequence[Record]) -> dict[str, list[str]]:
    """The software, hardware, images and commits behind some records: under each name the different ones there are."""
    facts: dict[str, set[str]] = {name: set() for name in ("hardware", "python", "torch", "numpy", "scipy", "threads", "images", "commits")}
    for record in records:
        facts["hardware"].add(f"{record.hardware['name']}, {record.hardware['cores']} cores")
        for name in ("python", "torch", "numpy", "scipy", "threads"):
            facts[name].add(str(record.env[name]))
        if record.data:
            facts["images"].add(f"{record.data['variant']}, fingerprint {record.data['fingerprint'][:12]}")
        facts["commits"].add(record.code["commit"][:7] + "+" * record.code["dirty"])
    return {name: sorted(values) for name, values in facts.items()}
