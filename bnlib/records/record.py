"""One JSON file a run: written once and atomically, loaded strictly, verified byte for byte.

A record holds the full configuration, what was measured, and what it was measured with. Its file is the one canonical
rendering of its content (an array a line, six significant digits), so any changed byte shows. Nothing in it names a host,
a user, a path or an address.
"""

import datetime
import errno
import hashlib
import json
import math
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bnlib import data as cifar
from bnlib import provenance
from bnlib.config import ConfigError, RunConfig

SCHEMA = 1
NUMERICS = 1  # raised when `tests/test_golden.py` no longer reproduces its numbers: older records are then stale
MAX_RECORD = 200_000  # bytes
UNFINISHED = ".unfinished"  # the folder below the results in which a sweep keeps what is no record yet
_KEYS = (
    "schema",
    "study",
    "run_id",
    "numerics",
    "config",
    "data",
    "code",
    "env",
    "hardware",
    "time",
    "status",
    "measured",
    "content_sha256",
)
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # what file systems without hard links say, such as a stick's
_STATUS = re.compile(r"completed|failed|diverged@\d+")


class RecordError(ValueError):
    """A record that is missing, damaged or not what it says it is. The message names the file and the way out."""


@dataclass(frozen=True)
class Record:
    """What one run measured, and with what. `measured` maps names to numbers and nested lists; None stands for not finite."""

    config: RunConfig
    status: str
    measured: dict[str, Any]
    data: dict[str, Any]
    code: dict[str, Any]
    env: dict[str, Any]
    hardware: dict[str, Any]
    time: dict[str, Any]
    numerics: int = NUMERICS

    def array(self, name: str) -> np.ndarray:
        """The measurement `name` as float64, NaN where it was not finite. Raises RecordError where there is none."""
        if name not in self.measured:
            raise RecordError(f"run {self.config.run_id} did not measure {name!r}; it has {', '.join(self.measured)}")
        return np.array(self.measured[name], dtype=np.float64)

    def to_bytes(self) -> bytes:
        """The canonical text of the record's file."""
        content = {
            "schema": SCHEMA,
            "study": self.config.study,
            "run_id": self.config.run_id,
            "numerics": self.numerics,
            "config": self.config.to_dict(),
            "data": self.data,
            "code": self.code,
            "env": self.env,
            "hardware": self.hardware,
            "time": self.time,
            "status": self.status,
            "measured": self.measured,
        }
        return _sealed(content)


def _sealed(content: dict[str, Any]) -> bytes:
    text = _render(content)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{text[:-2]},\n "content_sha256": "{digest}"\n}}\n'.encode()


def new(config: RunConfig, measured: dict[str, Any], started: datetime.datetime, seconds: float, **facts: Any) -> Record:
    """Wrap fresh measurements. `facts`: `status` (default completed), `hardware` and, where images were seen, `data` (the Dataset)."""
    dataset = facts.get("data")
    return Record(
        config=config,
        status=facts.get("status", "completed"),
        measured={name: _plain(value) for name, value in measured.items()},
        data={} if dataset is None else {"fingerprint": dataset.fingerprint, "variant": dataset.variant},
        code=provenance.code(),
        env=provenance.env(),
        hardware=facts.get("hardware") or provenance.hardware(),
        time={"start": started.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "seconds": float(f"{seconds:.3g}")},
    )


def write(record: Record, root: Path) -> Path:
    """Write `root/<study>/<run_id>.json`, once and atomically. Raises RecordError if it exists, is too large, or cannot be written."""
    text = record.to_bytes()
    path = path_of(record.config, root)
    if len(text) > MAX_RECORD:
        raise RecordError(f"record {path.name} would take {len(text)} bytes; at most {MAX_RECORD} are allowed: measure less in one run")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{record.config.run_id}.", suffix=".tmp", delete=False) as f:
            try:
                f.write(text)
                f.flush()
                os.fsync(f.fileno())
                Path(f.name).chmod(0o644)
                place(Path(f.name), path)
            finally:
                Path(f.name).unlink(missing_ok=True)
    except OSError as error:
        if path.exists():
            raise RecordError(f"{path} exists; a record is written once: remove it to measure again") from None
        raise RecordError(f"cannot write {path}: {error.strerror}") from error
    return path


def place(part: Path, path: Path) -> None:
    """Give a whole file its name, over none that is there: FileExistsError. `part` stays, or is gone.

    Where there are no hard links the name is taken first, by an empty file, which is there for a moment.
    """
    try:
        os.link(part, path)  # unlike a rename, it fails where there is one already
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.open("xb").close()  # so that the rename replaces nothing of another's
        try:
            part.replace(path)
        except OSError:
            path.unlink()
            raise


def clear(config: RunConfig, root: Path) -> None:
    """Remove what a killed process left of the record of `config`; not while another may be writing it."""
    path = path_of(config, root)
    for part in path.parent.glob(f".{config.run_id}.*.tmp"):
        part.unlink()


def path_of(config: RunConfig, root: Path) -> Path:
    """Where the record of `config` lies."""
    return root / config.study / f"{config.run_id}.json"


def load(path: Path) -> Record:
    """Read a record and check all of it. Raises RecordError, naming the file and the first thing that is wrong."""
    try:
        text = path.read_bytes()
        content = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise RecordError(f"{path}: not JSON, so truncated or damaged: restore it, or remove it and measure again") from None
    try:
        return _parse(path, text, content)
    except ConfigError as error:
        raise RecordError(f"{path}: {error}") from None


def _parse(path: Path, text: bytes, content: Any) -> Record:
    def must(holds: bool, what: str) -> None:
        if not holds:
            raise RecordError(f"{path}: {what}")

    must(isinstance(content, dict) and "schema" in content, "not a record: it has no schema")
    must(content["schema"] == SCHEMA, f"schema {content['schema']!r} is not {SCHEMA}: it needs another version of bnlib")
    must(tuple(content) == _KEYS, f"its keys are {', '.join(content)}; a record has {', '.join(_KEYS)}")
    dicts = ("config", "data", "code", "env", "hardware", "time", "measured")
    must(all(isinstance(content[key], dict) for key in dicts), f"{', '.join(dicts)} must each be an object")
    config = RunConfig.from_dict(content["config"])
    # A field that was added since has its default, which never changes: the id then still follows.
    must(content["run_id"] == config.run_id, f"run_id {content['run_id']} does not follow from its configuration ({config.run_id})")
    must(content["study"] == config.study == path.parent.name, f"belongs into the folder {config.study}")
    must(path.name == f"{config.run_id}.json", f"must be named {config.run_id}.json")
    must(isinstance(content["status"], str) and bool(_STATUS.fullmatch(content["status"])), f"unknown status {content['status']!r}")
    must(content["numerics"] == NUMERICS, f"made by numerics {content['numerics']!r}, now {NUMERICS}: remove it and measure again")
    fields = {key: content[key] for key in ("status", "measured", "data", "code", "env", "hardware", "time", "numerics")}
    record = Record(config=config, **fields)
    sealed = _sealed({key: content[key] for key in _KEYS[:-1]})
    must(sealed == text, "its bytes are not those that were written: restore it, or remove it and measure again")
    if config.data is not None:
        expected = cifar.KNOWN.get(content["data"].get("fingerprint"))
        must(expected is not None and expected == content["data"].get("variant"), "measured on an unknown data set: it cannot be compared")
        must((expected == "synthetic") == (config.data.source == "synthetic"), f"says {config.data.source}, but saw {expected} images")
    return record


def _render(value: Any, indent: str = "") -> str:
    if isinstance(value, dict) and value:
        lines = [f"{indent} {json.dumps(key)}: {_render(item, indent + ' ')}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """Tensors and arrays as nested lists, floats at six significant digits, None for what is not finite."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value
