"""A folder of records: where it is, which of them have some settings, whether all are sound."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bnlib.config import RunConfig
from bnlib.records.record import MAX_RECORD, UNFINISHED, Record, RecordError, load

MAX_RESULTS = 16 * 2**20  # bytes; a clone and the wheel carry them all
_NAME = re.compile(r"[0-9a-f]{12}\.json")
INSTALLED = Path(__file__).parents[1] / "results"
"""The records that an installed bnlib brings with it; in a checkout there is no such folder."""


class NoRecord(RecordError):
    """There is no record with the settings that were asked for. The message of `select` names the nearest, and the command for it."""


def results_dir(root: Path | str | None = None) -> Path:
    """The results folder: `root`, else $BNLIB_RESULTS, else `results` in or above the working folder, beside bnlib, or installed with it.

    Raises RecordError where there is none. A folder that is only called `results`, and holds something else, is passed over.
    """
    if named := root or os.environ.get("BNLIB_RESULTS"):
        if not Path(named).is_dir():
            raise RecordError(f"there is no results folder {named}")
        return Path(named)
    for folder in (Path.cwd(), *Path.cwd().parents, Path(__file__).parents[2]):
        if _holds_records(folder / "results"):
            return folder / "results"
    if INSTALLED.is_dir():
        return INSTALLED
    raise RecordError("no results folder in or above this one; name it with BNLIB_RESULTS or --results")


def _holds_records(folder: Path) -> bool:
    """Whether this is a folder of records, or one that is still empty."""
    try:
        seen = [path for path in folder.iterdir() if not path.name.startswith(".")]
        return not seen or any(_NAME.fullmatch(path.name) for path in folder.glob("*/*.json"))
    except OSError:
        return False


def own(root: Path) -> Path:
    """`root`, to write into. Raises RecordError for the records that were installed with bnlib: an update would throw new ones away."""
    if root.resolve() == INSTALLED.resolve():
        raise RecordError("these records belong to the installed bnlib; take a copy to add to: bnlib export results")
    return root


def find(study: str, root: Path | str | None = None, **where: Any) -> list[Record]:
    """All records of `study` whose settings match `where`, sorted by configuration. Raises NoRecord where there is none."""
    folder = results_dir(root) / study
    return select([load(path) for path in sorted(folder.glob("*.json"))], study=study, **where)


def select(records: Iterable[Record], **where: Any) -> list[Record]:
    """The records whose settings match `where`, such as depth=110, norm="none". Raises NoRecord where there is none."""
    held = list(records)
    found = [r for r in held if all(settings(r.config).get(key) == value for key, value in where.items())]
    if not found:
        raise NoRecord(_missing(held, where))
    return sorted(found, key=lambda r: json.dumps(r.config.to_dict()))


def settings(config: RunConfig) -> dict[str, Any]:
    """All settings of a run in one flat dictionary, study and seed included."""
    flat = {"study": config.study, "seed": config.seed}
    for section in config.to_dict().values():
        flat |= section if isinstance(section, dict) else {}
    return flat


def typed(value: Any) -> str:
    """A value as the command line takes it after `--only key=`."""
    return value if isinstance(value, str) else json.dumps(value)


def _missing(held: Sequence[Record], where: dict[str, Any]) -> str:
    asked = ", ".join(f"{key}={value}" for key, value in where.items() if key != "study") or "any setting"
    had = [settings(r.config) for r in held]
    study = where.get("study") or (had[0]["study"] if had else "NAME")

    def distance(flat: dict[str, Any]) -> float:
        gaps = [(flat.get(key), value) for key, value in where.items() if flat.get(key) != value]
        numbers = [abs(a - b) / (1 + abs(b)) for a, b in gaps if isinstance(a, int | float) and isinstance(b, int | float)]
        return len(gaps) + sum(numbers) / (1 + sum(numbers))

    near = {", ".join(f"{key}={flat.get(key)}" for key in where if key != "study"): None for flat in sorted(had, key=distance)}
    nearest = f" The nearest: {'; '.join(list(near)[:3])}." if near else ""
    only = "".join(f" --only {key}={typed(value)}" for key, value in where.items() if key != "study")
    start = ", ".join(f"{key}={value!r}" for key, value in where.items() if key in ("depth", "lr", "norm"))
    own = f" To train a small one in a notebook: bnlib.explore.live.TrainYourOwn({start})" if start else ""
    return f"no record of study {study} with {asked}.{nearest} To make it: bnlib sweep {study}{only}{own}"


def verify(root: Path) -> list[str]:
    """What is wrong with the records below `root`, a line each, with the file's name; empty when all is well."""
    problems, size = [], 0
    for path in sorted(p for p in root.rglob("*") if p.is_file() and UNFINISHED not in p.parts):
        size += path.stat().st_size
        if path.suffix != ".json":
            problems.append(f"{path}: not a record: remove it")
            continue
        try:
            load(path)
        except RecordError as error:
            problems.append(str(error))
        if path.stat().st_size > MAX_RECORD:
            problems.append(f"{path}: {path.stat().st_size} bytes; at most {MAX_RECORD} are allowed")
    if size > MAX_RESULTS:
        problems.append(f"{root}: {size} bytes in all; at most {MAX_RESULTS} are allowed")
    return problems
