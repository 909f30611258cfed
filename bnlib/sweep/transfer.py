"""Records and runs in progress as plain files, so that work can move from one machine to another."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from bnlib import records
from bnlib.config import RunConfig
from bnlib.records import RecordError
from bnlib.sweep.worker import begun
from bnlib.train import checkpoints
from bnlib.train.checkpoints import CheckpointError

_VISIBLE = "unfinished"  # the name outside of what is hidden below the results


@dataclass
class Moved:
    """What was copied, how many files were there already, and what was refused, a line each."""

    copied: int = 0
    there: int = 0
    problems: list[str] = field(default_factory=list)


def export(root: Path, folder: Path) -> Moved:
    """Copy all records and runs in progress below `root` into `folder`, where nothing is overwritten. Raises RecordError."""
    if root.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise RecordError(f"{folder} lies in the results themselves: name another folder")
    finished = sorted(root.glob("*/*.json"))
    names = {path.relative_to(root).with_suffix("") for path in finished}
    hidden = root / records.UNFINISHED
    saved = [path for path in sorted(hidden.glob("*/*.ckpt")) if path.relative_to(hidden).with_suffix("") not in names]
    moved = Moved()
    for source, target in [
        *((path, folder / path.relative_to(root)) for path in finished),
        *((path, folder / _VISIBLE / path.relative_to(hidden)) for path in saved),
    ]:
        _copy(source.read_bytes(), target, moved)
    return moved


def take_in(folder: Path, root: Path) -> Moved:
    """Copy what `export` wrote into `folder` below `root`, after checking each file. Raises RecordError where there is none."""
    if not folder.is_dir():
        raise RecordError(f"there is no folder {folder}")
    moved = Moved()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            text, target = _checked(path, root)
        except (RecordError, CheckpointError) as error:
            moved.problems.append(str(error))
        else:
            _copy(text, target, moved)
    return moved


def _checked(path: Path, root: Path) -> tuple[bytes, Path]:
    """The content of a file that `export` wrote, and its place below `root`."""
    if path.suffix == ".json":
        record = records.load(path)
        return path.read_bytes(), records.path_of(record.config, root)  # as it was written: a field that came since changes no record
    if path.suffix != ".ckpt":
        raise RecordError(f"{path}: neither a record nor a run in progress")
    run = RunConfig.from_dict(checkpoints.read(path)["state"]["run"])
    if (path.parent.name, path.stem) != (run.study, run.run_id):
        raise CheckpointError(f"{path}: must be named {_VISIBLE}/{run.study}/{run.run_id}.ckpt")
    if records.path_of(run, root).exists():
        raise CheckpointError(f"{path}: that run has its record here already; remove it")
    return path.read_bytes(), begun(run, root, "ckpt")


def _copy(text: bytes, target: Path, moved: Moved) -> None:
    """Write a whole file or none, over none that is there."""
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.exists():
            if target.read_bytes() == text:
                moved.there += 1
            else:
                moved.problems.append(f"{target}: is there with another content; remove one of the two")
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(text)
            records.place(part, target)
        finally:
            part.unlink(missing_ok=True)
        moved.copied += 1
    except OSError as error:
        raise RecordError(f"cannot write {target}: {error.strerror}") from None
