"""What each study has come to, and with what it was made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnlib import provenance
from bnlib.records import Record
from bnlib.studies import STUDIES, Study
from bnlib.sweep import worker
from bnlib.sweep.run import estimate


def of_study(study: Study, root: Path) -> dict[str, Any]:
    """Runs planned, completed, diverged, failed and missing; hours spent, and to go on this machine (None where unknown); hardware."""
    done, missing = study.done(root), study.missing(root)
    kinds = [record.status.partition("@")[0] for record in done]
    like = _like(study, done, root) if missing else []
    seconds = [estimate(study, run, like) for run in missing]
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


def _like(study: Study, done: Sequence[Record], root: Path) -> Sequence[Record]:
    """The records that tell what a run of `study` takes here: its own made here, else for a study that trains those of the others that do.

    What is only measured runs on a processor anywhere, so that records from elsewhere are a guess; what trains may run on a GPU.
    """
    name = provenance.hardware(worker.resolve(study.device("auto")))["name"]

    def here(found: Sequence[Record]) -> list[Record]:
        return [record for record in found if record.hardware["name"] == name]

    if own := here(done):
        return own
    if study.measure:
        return done
    return [record for other in STUDIES.values() if other.measure is None for record in here(other.done(root))]


def made_with(records: Sequence[Record]) -> dict[str, dict[str, list[str]]]:
    """The hardware, software, images, commits and days behind some records: under each name the different ones, and the studies of each."""
    facts: dict[str, dict[str, set[str]]] = {}

    def add(name: str, value: str, record: Record) -> None:
        facts.setdefault(name, {}).setdefault(value, set()).add(record.config.study)

    for record in records:
        add("hardware", f"{record.hardware['name']}, {record.hardware['cores']} cores", record)
        for name in ("python", "torch", "numpy", "scipy", "threads"):
            add(name, str(record.env[name]), record)
        add("images", f"{record.data['variant']}, fingerprint {record.data['fingerprint'][:12]}" if record.data else "none", record)
        add("commit", record.code["commit"][:7] + "+" * record.code["dirty"], record)
        add("day", record.time["start"][:10], record)
    return {name: {value: sorted(held[value]) for value in sorted(held)} for name, held in facts.items()}
