"""Where a figure's numbers come from: records, this page, or the paper."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from bnlib.records import Record, RecordError


@dataclass(frozen=True)
class Source:
    """Where a figure's numbers come from: one word, one generated line, the command that remakes them, the record files."""

    word: str
    line: str
    rerun: str | None
    records: list[tuple[str, str]]


def source(records: Sequence[Record]) -> Source:
    """The provenance of a figure drawn from `records`, each counted once; commits from the first used to the last."""
    records = list({r.config.run_id: r for r in records}.values())
    by_time = sorted(records, key=lambda r: r.time["start"])
    studies = sorted({r.config.study for r in records})
    seeds = len({r.config.seed for r in records})
    facts = [
        f"{seeds} seed{'s' * (seeds > 1)}",
        f"{len(records)} run{'s' * (len(records) > 1)}",
        _listed("commit", (r.code["commit"][:7] + "+" * r.code["dirty"] for r in by_time)),
        *sorted({r.hardware["name"] for r in records}),
        *sorted({f"torch {r.env['torch']}" for r in records}),
        _listed("", (r.time["start"][:10] for r in by_time)),
        *sorted({f"data: {r.data['variant']}" for r in records if r.data}),
    ]
    files = [(r.config.run_id, f"results/{r.config.study}/{r.config.run_id}.json") for r in records]
    return Source("cached", " · ".join(facts), " && ".join(f"bnlib sweep {study}" for study in studies), files)


def computed(line: str) -> Source:
    """The provenance of a figure whose numbers were computed while the page was built."""
    return Source("computed on this page", line, None, [])


def paper(figure: str) -> dict[str, Any]:
    """The paper's figure as numbers read off it by pixel: digitised, not the authors' data. Raises RecordError on an unknown one."""
    content: dict[str, Any] = json.loads(resources.files("bnlib").joinpath("paper.json").read_text())
    if figure not in content or figure == "source":
        raise RecordError(f"no figure {figure!r} was digitised; there are {', '.join(k for k in content if k != 'source')}")
    digitised: dict[str, Any] = content[figure]
    return digitised


def _listed(word: str, values: Iterable[str]) -> str:
    unique = list(dict.fromkeys(values))
    shown = unique[0] if len(unique) == 1 else f"{unique[0]} … {unique[-1]}"
    return f"{word} {shown}".strip()
