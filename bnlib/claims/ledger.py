"""The ledger: one entry a claim, read strictly from `book/claims.yml`, and the verdict that the records give it.

`book/verdicts.json` holds the words that the verdicts had when they were last looked at (`bnlib claims --write`): it decides nothing,
but a word that changes with the records does not do so unseen (`bnlib claims`).
"""

import dataclasses
import datetime
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from bnlib import claims, studies
from bnlib.claims import Verdict
from bnlib.config import ConfigError
from bnlib.records import NoRecord, Record, RecordError

Known = Literal["read", "digitised", "remembered", "inferred", "later"]
KNOWN: dict[str, str] = {
    "read": "read in a source that quotes the paper",
    "digitised": "read off the paper's figure by pixel",
    "remembered": "from memory, not checked against the paper",
    "inferred": "follows from the paper's argument; not stated in what we could read",
    "later": "claimed by later work",
}
SEEN: dict[str, str] = {  # of what the claim is judged by, when its threshold was fixed or last changed
    "nothing": "before any run",
    "trials": "after trial runs, before the records",
    "records": "with records known",
}


@dataclass(frozen=True)
class Entry:
    """A claim: where it is made, what it says and how surely we know that, how it is tested, and where the book shows it.

    `test` names a function of `bnlib.claims` that takes the records of `studies` together; `seen` is what had been seen of it when its
    threshold was fixed or last changed, a key of SEEN. A claim without a test says `why_not`.
    """

    id: str
    where: str
    says: str
    known: str
    threshold: str
    fixed: datetime.date | None
    chapter: str
    figure: str | None
    test: str | None = None
    studies: tuple[str, ...] = ()
    why_not: str | None = None
    seen: str | None = None

    def __post_init__(self) -> None:
        if self.known not in get_args(Known):
            raise ConfigError(f"claim {self.id}: known is {self.known!r}; it must be one of {', '.join(KNOWN)}")
        if not isinstance(self.fixed, datetime.date | None):
            raise ConfigError(f"claim {self.id}: fixed is {self.fixed!r}; write the day as 2026-11-27")
        if (self.test is None) != bool(self.why_not):
            raise ConfigError(f"claim {self.id}: give either a test, or the reason why there is none in why_not")
        if self.test is not None and not callable(getattr(claims, self.test, None)):
            raise ConfigError(f"claim {self.id}: bnlib.claims has no function {self.test!r}")
        if self.seen not in (SEEN if self.test else (None,)):
            raise ConfigError(f"claim {self.id}: seen is {self.seen!r}; it must be one of {', '.join(SEEN)}, of a claim that has a test")
        if unknown := sorted(set(self.studies) - set(studies.STUDIES)):
            raise ConfigError(f"claim {self.id}: there is no study {unknown[0]!r}; there are {', '.join(studies.STUDIES)}")


@dataclass(frozen=True)
class Judged:
    """A claim, its verdict, and the records whose measurements the verdict looked at."""

    entry: Entry
    verdict: Verdict
    records: tuple[Record, ...]

    @property
    def seeds(self) -> int:
        """How many seeds these records have."""
        return len({record.config.seed for record in self.records})

    def to_dict(self) -> dict[str, Any]:
        """The claim as `bnlib claims --json` prints it."""
        paths = [f"{record.config.study}/{record.config.run_id}" for record in self.records]
        claim, word = self.verdict.claim, self.verdict.word
        return {"id": self.entry.id, "where": self.entry.where, "claim": claim, "verdict": word, "records": paths}


def find(name: str, root: Path) -> Path | None:
    """A file of the ledger that belongs to the records below `root`: in the book beside them, or in the installed package."""
    places = (root.parent / "book", root.parent, Path(__file__).parents[2] / "book", Path(__file__).parents[1])
    return next((place / name for place in places if (place / name).is_file()), None)


def entries(root: Path) -> list[Entry]:
    """All claims, in the order of the file. Raises ConfigError, with the claim and what is wrong with it."""
    path = find("claims.yml", root)
    if path is None:
        raise ConfigError(f"no claims.yml in a folder book beside {root}: name the results of a checkout with --results")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return parse(content)


def parse(content: Any) -> list[Entry]:
    """The claims of a ledger's content. Raises ConfigError on an unknown or a missing key, on two alike, and as `Entry` does."""
    fields = {f.name: f.default for f in dataclasses.fields(Entry)}
    needed = [name for name, default in fields.items() if default is dataclasses.MISSING]
    found: dict[str, Entry] = {}
    if not isinstance(content, list):
        raise ConfigError("claims.yml must be a list of claims")
    for number, item in enumerate(content, start=1):
        if not isinstance(item, dict):
            raise ConfigError(f"claim {number} of claims.yml must be a list of keys and values")
        name = item.get("id", f"number {number}")
        if unknown := sorted(set(item) - set(fields)):
            raise ConfigError(f"claim {name}: unknown key {unknown[0]!r}; a claim has {', '.join(fields)}")
        if missing := [key for key in needed if key not in item]:
            raise ConfigError(f"claim {name}: the key {missing[0]!r} is missing")
        if name in found:
            raise ConfigError(f"claim {name}: there are two of this id")
        if not isinstance(item.get("studies") or [], list):
            raise ConfigError(f"claim {name}: studies must be a list, such as [init]")
        texts = {key: value.strip() if isinstance(value, str) else value for key, value in item.items()}
        found[name] = Entry(**texts | {"studies": tuple(item.get("studies") or ())})
    return list(found.values())


def judge(entry: Entry, root: Path) -> Judged:
    """The verdict on a claim from the records below `root`, as it is now; where some are missing, that. Raises RecordError on a damaged
    record.
    """
    if entry.test is None:
        assert entry.why_not is not None
        return Judged(entry, Verdict(entry.says, "not testable here", entry.why_not), ())
    watched = [(record, _Watched(record.measured)) for study in entry.studies for record in _recorded(study, root)]
    try:
        verdict = getattr(claims, entry.test)([dataclasses.replace(record, measured=measured) for record, measured in watched])
    except NoRecord as error:
        verdict = Verdict(entry.says, "not yet measured", str(error).rstrip("."))
    return Judged(entry, verdict, tuple(record for record, measured in watched if measured.seen))


def judge_all(root: Path) -> list[Judged]:
    """Every claim with its verdict."""
    _recorded.cache_clear()
    return [judge(entry, root) for entry in entries(root)]


def changed(judged: list[Judged], root: Path) -> list[str]:
    """How the verdicts differ from those last looked at, a line each; empty where they are the same."""
    path = find("verdicts.json", root)
    try:
        before: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except ValueError:
        raise ConfigError(f"{path} is not JSON: write it anew with bnlib claims --write") from None
    now = {one.entry.id: one.verdict.word for one in judged}
    return [
        f"{name}: {before.get(name, 'not in the ledger')} when last looked at, now {now.get(name, 'not in the ledger')}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def write(judged: list[Judged], root: Path) -> Path:
    """Write down the verdicts as they are now. Raises ConfigError where there is no book for them, RecordError where it is read-only."""
    path = root.parent / "book" / "verdicts.json"
    if not path.with_name("claims.yml").is_file():
        raise ConfigError(f"no book beside {root} to write verdicts.json into: name the results of a checkout with --results")
    try:
        path.write_text(json.dumps({one.entry.id: one.verdict.word for one in judged}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror}") from None
    return path


@cache
def _recorded(study: str, root: Path) -> list[Record]:
    return claims.recorded(study, root)


class _Watched(dict):
    """The measurements of a record, which remember whether anything was read of them."""

    seen = False

    def __getitem__(self, key: str) -> Any:
        self.seen = True
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.seen = True
        return super().get(key, default)
