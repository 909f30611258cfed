"""What is exported is imported whole, checked, and over nothing that is there."""

import errno
from pathlib import Path

import pytest
import toys

from bnlib import data, records, train
from bnlib.config import ProductConfig, RunConfig
from bnlib.records import RecordError, record
from bnlib.sweep import transfer
from bnlib.sweep.worker import begun, work
from bnlib.train import checkpoints

ABOUT = {"torch": "any"}


def toy(seed: int) -> RunConfig:
    return RunConfig("toy", seed, product=ProductConfig(1, 2))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two records, a run in progress, and one that was in progress until its record was made."""
    root = tmp_path / "results"
    root.mkdir()
    for seed in range(2):
        work(toys.job(toys.Study("toy", "", (toy(seed),), toys.one), root))
    (root / "going").unlink()
    run = toys.training().runs[0]
    images = data.synthetic(64, 32)
    begun(run, root, "ckpt").parent.mkdir(parents=True, exist_ok=True)
    checkpoints.Checkpoint(begun(run, root, "ckpt"), ABOUT, ["machine A"]).save(train.Trainer(run, images))
    begun(toy(0), root, "ckpt").write_bytes(b"of no use any more")
    begun(run, root, "lock").touch()
    return root


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    assert transfer.export(root, tmp_path / "usb" / "stick") == transfer.Moved(copied=3)
    return tmp_path / "usb" / "stick"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_and_back(root: Path, folder: Path, there: Path):
    run = toys.training().runs[0]
    assert set(files(folder)) == {f"toy/{toy(0).run_id}.json", f"toy/{toy(1).run_id}.json", f"unfinished/toy/{run.run_id}.ckpt"}
    assert transfer.take_in(folder, there) == transfer.Moved(copied=3)
    assert files(there) == {name.replace("unfinished", records.UNFINISHED): text for name, text in files(folder).items()}
    assert files(there).items() <= files(root).items()
    assert records.verify(there) == []
    assert checkpoints.load(begun(run, there, "ckpt"), run, ABOUT)[1] == ["machine A"]
    assert transfer.take_in(folder, there) == transfer.Moved(there=3)
    assert transfer.export(root, folder) == transfer.Moved(there=3)


def test_a_record_that_is_older_than_a_field_comes_as_it_was_written(folder: Path, there: Path):
    results = Path(__file__).parents[1] / "results"
    old = next(path for path in results.glob("*/*.json") if records.load(path).to_bytes() != path.read_bytes())
    (folder / old.parent.name).mkdir()
    (folder / old.parent.name / old.name).write_bytes(old.read_bytes())
    assert transfer.take_in(folder, there).problems == []
    assert (there / old.parent.name / old.name).read_bytes() == old.read_bytes()
    assert transfer.take_in(folder, there) == transfer.Moved(there=4)


def test_what_fails_is_named_and_the_rest_is_taken(folder: Path, there: Path):
    record, saved = folder / "toy" / f"{toy(0).run_id}.json", next(folder.rglob("*.ckpt"))
    record.write_text(record.read_text().replace('"schema": 1', '"schema": 0'))
    saved.write_bytes(saved.read_bytes()[:1000])
    (folder / "notes.txt").write_text("hello")
    moved = transfer.take_in(folder, there)
    assert moved.copied == 1
    assert moved.problems == [
        f"{folder / 'notes.txt'}: neither a record nor a run in progress",
        f"{record}: schema 0 is not 1: it needs another version of bnlib",
        f"{saved}: truncated or damaged; remove it to begin that run anew",
    ]
    assert list(files(there)) == [f"toy/{toy(1).run_id}.json"]


def test_a_checkpoint_under_another_name_is_refused(folder: Path, there: Path):
    saved = next(folder.rglob("*.ckpt"))
    saved.rename(saved.with_name("0123456789ab.ckpt"))
    (problem,) = transfer.take_in(folder, there).problems
    assert problem.endswith(f"0123456789ab.ckpt: must be named unfinished/toy/{saved.name}")


def test_nothing_is_overwritten(root: Path, folder: Path, there: Path):
    transfer.take_in(folder, there)
    record, saved = there / "toy" / f"{toy(0).run_id}.json", next(there.rglob("*.ckpt"))
    for path in (record, saved):
        path.write_bytes(b"mine")
    moved = transfer.take_in(folder, there)
    assert (moved.copied, moved.there) == (0, 1)
    assert moved.problems == [f"{path}: is there with another content; remove one of the two" for path in (record, saved)]
    assert record.read_bytes() == saved.read_bytes() == b"mine"
    assert [problem.split(":")[0] for problem in transfer.export(there, folder).problems] == [
        str(folder / "toy" / record.name),
        str(folder / "unfinished" / "toy" / saved.name),
    ]


def test_a_run_in_progress_whose_record_is_there_is_not_taken(folder: Path, there: Path):
    path = records.path_of(toys.training().runs[0], there)
    path.parent.mkdir()
    path.touch()
    moved = transfer.take_in(folder, there)
    assert moved.copied == 2
    assert "that run has its record here already" in moved.problems[0]


def test_a_full_disk_leaves_no_half_file(folder: Path, there: Path, monkeypatch: pytest.MonkeyPatch):
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record.os, "link", full)
    with pytest.raises(RecordError, match=r"cannot write .*: No space left on device"):
        transfer.take_in(folder, there)
    assert files(there) == {}


def test_a_stick_without_hard_links_takes_them_too(root: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(record.os, "link", refuse)
    stick = tmp_path / "stick"
    assert transfer.export(root, stick) == transfer.Moved(copied=3)
    assert files(stick) == files(folder)
    assert transfer.export(root, stick) == transfer.Moved(there=3)
    path, part = next(stick.rglob("*.json")), stick / "part"
    part.write_bytes(b"another")
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        records.place(part, path)
    assert path.read_bytes() == before


def test_the_results_are_not_exported_into_themselves(root: Path):
    for folder in (root, root / "copy"):
        with pytest.raises(RecordError, match="name another folder"):
            transfer.export(root, folder)
