"""Images come whole and named from every source, or not at all; downloads survive what servers do."""

import hashlib
import io
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bnlib import data, files
from bnlib.config import DataConfig
from bnlib.data import DataError, Dataset
from bnlib.files import Images

REAL = DataConfig()


def some_images(train: int = 12, test: int = 5, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)

    def part(n: int) -> tuple:
        return rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n)

    return Images(*part(train), *part(test))


def same(dataset: Dataset, images: Images) -> bool:
    pairs = zip((dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test), images, strict=True)
    return all(np.array_equal(t.permute(0, 2, 3, 1) if t.ndim == 4 else t, a) for t, a in pairs)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "images.npz", **some_images()._asdict())
    return tmp_path / "images.npz"


@pytest.fixture(scope="module")
def made() -> Dataset:
    return data.load(DataConfig(source="synthetic"))


# What a dataset is


def test_the_fingerprint_is_that_of_cifars_binary_layout():
    images = some_images(10_001, 3)
    dataset = data.from_images(images)

    def sums(x: np.ndarray, y: np.ndarray) -> list[str]:
        out = []
        for start in range(0, len(x), 10_000):
            raw = io.BytesIO()
            for image, label in zip(x[start : start + 10_000], y[start : start + 10_000], strict=True):
                raw.write(bytes([label]) + b"".join(image[:, :, channel].tobytes() for channel in range(3)))
            out.append(hashlib.sha1(raw.getvalue()).hexdigest())
        return out

    lines = ["train", *sums(images.x_train, images.y_train), "test", *sums(images.x_test, images.y_test)]
    assert len(lines) == 5
    assert dataset.fingerprint == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_the_known_fingerprints_never_change():
    assert data.KNOWN == {
        "9d3b07f6cbf5e313ffab676c10698c17ca215bda47ce176b0c41691c6bf9d440": "official",
        "501506021cf5260c8db9664380b5d8cd8025786d24f6b68f2e9f20a45813468c": "shared copy",
        "4b1daae873221450a3b5e6e0b42a99c5a5730687fb10987d63551e4afa59b916": "synthetic",
    }
    assert set(data.ABOUT) == {*data.KNOWN.values(), "unknown"}


@pytest.mark.parametrize("changed", range(4))
def test_the_fingerprint_sees_every_array(changed: int):
    images = some_images()
    other = [array.copy() for array in images]
    other[changed][1] = (other[changed][1] + 1) % 10
    assert data.from_images(Images(*other)).fingerprint != data.from_images(images).fingerprint


def test_the_fingerprint_sees_where_training_ends():
    images = some_images(12, 6)
    x, y = np.concatenate([images.x_train, images.x_test]), np.concatenate([images.y_train, images.y_test])
    names = {data.from_images(Images(x[:cut], y[:cut], x[cut:], y[cut:])).fingerprint for cut in (6, 9, 12)}
    assert len(names) == 3


def test_mean_and_deviation_are_those_of_the_training_images():
    images = some_images(777)
    dataset = data.from_images(images)
    np.testing.assert_allclose(dataset.mean, images.x_train.mean((0, 1, 2)) / 255, rtol=1e-6)
    np.testing.assert_allclose(dataset.std, images.x_train.std((0, 1, 2)) / 255, rtol=1e-6)
    x = dataset.standardise(dataset.x_train)
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 2, 3)), 1, rtol=1e-4)


def test_images_without_variation_are_refused():
    images = some_images()
    images.x_train[..., 1] = 7
    with pytest.raises(DataError, match="one value only"):
        data.from_images(images)


def test_no_record_is_made_of_unknown_images(made: Dataset):
    made.require_known()
    unknown = data.from_images(some_images())
    assert unknown.variant == "unknown"
    with pytest.raises(DataError, match=f"not CIFAR-10's .*{unknown.fingerprint[:12]}.*give all of CIFAR-10"):
        unknown.require_known()


def test_a_dataset_moves_as_a_whole():
    moved = data.from_images(some_images()).to("meta")
    assert {t.device.type for t in vars(moved).values() if isinstance(t, torch.Tensor)} == {"meta"}


# Where it comes from


@pytest.mark.parametrize("as_folder", [False, True])
def test_an_npz_is_read(npz: Path, as_folder: bool):
    place = npz.rename(npz.with_name("cifar10.npz")).parent if as_folder else npz
    assert same(data.load(REAL, place), some_images())


def test_what_is_saved_is_loaded(tmp_path: Path):
    dataset = data.from_images(some_images())
    data.save(dataset, tmp_path / "copy.npz")
    again = data.load(REAL, str(tmp_path / "copy.npz"))
    assert same(again, some_images())
    assert again.fingerprint == dataset.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["copy.npz"]
    with zipfile.ZipFile(tmp_path / "copy.npz") as held:
        assert {info.compress_type for info in held.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize(("name", "problem"), [("there.npz", "exists"), ("x.npy", "ends in .npz"), ("no/x.npz", "No such file")])
def test_nothing_is_saved_over_or_beside(tmp_path: Path, name: str, problem: str):
    (tmp_path / "there.npz").write_bytes(b"mine")
    with pytest.raises(DataError, match=problem):
        data.save(data.from_images(some_images()), tmp_path / name)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("there.npz", b"mine")]


def test_the_place_is_the_argument_then_the_environment_then_a_folder_above(npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    inner, above = tmp_path / "book" / "deep", tmp_path / ".data"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.delenv("BNLIB_DATA", raising=False)
    with pytest.raises(DataError, match=r"no CIFAR-10 here.*--data or \$BNLIB_DATA.*bnlib data --download"):
        data.load(REAL)
    above.mkdir()
    np.savez(above / "cifar10.npz", **some_images(seed=1)._asdict())
    assert same(data.load(REAL), some_images(seed=1))
    np.savez(tmp_path / "env.npz", **some_images(seed=2)._asdict())
    monkeypatch.setenv("BNLIB_DATA", str(tmp_path / "env.npz"))
    assert same(data.load(REAL), some_images(seed=2))
    assert same(data.load(REAL, npz), some_images())


@pytest.mark.parametrize(("make", "problem"), [(False, "does not exist"), (True, "holds neither")])
def test_a_place_without_images_is_named(tmp_path: Path, make: bool, problem: str):
    if make:
        (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"{problem}.*bnlib data --download"):
        data.load(REAL, tmp_path / "empty")


GOOD = some_images(4, 2)._asdict()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"x_test": None}, "has no x_test; it has x_train, y_train, y_test, and needs"),
        ({"x_train": GOOD["x_train"] / 255}, r"x_train is float64 \(4, 32, 32, 3\); it must be uint8, N x 32 x 32 x 3"),
        ({"x_train": GOOD["x_train"].transpose(0, 3, 1, 2)}, r"x_train is uint8 \(4, 3, 32, 32\)"),
        ({"x_test": GOOD["x_test"][:0]}, r"x_test is uint8 \(0, 32, 32, 3\)"),
        ({"y_train": GOOD["y_train"][:3]}, r"y_train is int64 \(3,\); it must hold 4 whole numbers from 0 to 9"),
        ({"y_train": GOOD["y_train"][:, None]}, r"y_train is int64 \(4, 1\)"),
        ({"y_test": GOOD["y_test"].astype(float)}, "y_test is float64"),
        ({"y_test": np.array([3, 10])}, "from 0 to 9"),
        ({"y_test": np.array([-1, 3])}, "from 0 to 9"),
        ({"y_test": np.array([{}, {}])}, "not a whole .npz of plain arrays.*bnlib data --save"),
    ],
)
def test_a_wrong_npz_is_refused_in_one_line(tmp_path: Path, change: dict, problem: str):
    np.savez(tmp_path / "wrong.npz", **{name: value for name, value in (GOOD | change).items() if value is not None})
    with pytest.raises(DataError, match=problem) as caught:
        data.load(REAL, tmp_path / "wrong.npz")
    assert str(tmp_path / "wrong.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps({"x_train": 0})])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"not a whole \.npz of plain arrays"):
        data.load(REAL, tmp_path / "other.npz")


def test_a_single_array_is_refused(tmp_path: Path):
    with (tmp_path / "one.npz").open("wb") as f:
        np.save(f, GOOD["x_train"])
    with pytest.raises(DataError, match=r"not a whole \.npz of plain arrays"):
        data.load(REAL, tmp_path / "one.npz")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_npz_is_refused_or_changes_nothing(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject):
    buffer = io.BytesIO()
    np.savez(buffer, **some_images(2, 1)._asdict())
    whole = buffer.getvalue()
    cut = draw.draw(st.integers(0, len(whole)), label="cut")
    broken = bytearray(whole[:cut] if cut < len(whole) else whole)
    # Half of the places are in the headers, where a single bit matters most.
    ends = st.integers(0, 200) | st.integers(len(whole) - 400, len(whole) - 1)
    for place in draw.draw(st.lists(ends | st.integers(0, len(whole) - 1), max_size=3), label="flips"):
        if place < len(broken):
            broken[place] ^= 1 << draw.draw(st.integers(0, 7), label="bit")
    path = tmp_path_factory.mktemp("npz") / "broken.npz"
    path.write_bytes(broken)
    try:
        dataset = data.load(REAL, path)
    except DataError:
        return
    assert same(dataset, some_images(2, 1))


def test_mosaics_are_read_row_by_row(tmp_path: Path):
    images = some_images(20, 4)
    x, y = np.concatenate([images.x_train, images.x_test]), np.concatenate([images.y_train, images.y_test])
    for j in range(2):  # two pictures of four rows by three columns
        sheet = np.block([[[x[12 * j + 3 * row + column]] for column in range(3)] for row in range(4)])
        Image.fromarray(sheet).save(tmp_path / f"cifar10_{j:02d}.webp", lossless=True)
    np.savez(tmp_path / "cifar10_labels.npz", y=y.astype(np.uint8))
    assert same(data.load(REAL, tmp_path), images)
    np.savez(tmp_path / "cifar10_labels.npz", y=y[1:].astype(np.uint8))
    with pytest.raises(DataError, match="24 images, but there are 23 labels"):
        data.load(REAL, tmp_path)
    (tmp_path / "cifar10_01.webp").write_bytes((tmp_path / "cifar10_01.webp").read_bytes()[:500])
    with pytest.raises(DataError, match="cannot be read, copy them again"):
        data.load(REAL, tmp_path)


# torchvision's files, small ones with their own checksums in the place of the real


@dataclass
class Official:
    images: Images
    archive: bytes
    name: str


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Official:
    cifar = files._torchvision().datasets.CIFAR10
    images = some_images(10, 4)

    def batch(x: np.ndarray, y: np.ndarray) -> bytes:
        rows = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        text = pickle.dumps({"data": rows, "labels": y.tolist()}, protocol=2)
        old = b"K\x00K\x01\x87"  # dtype(align=0, copy=1), as NumPy pickled a dtype when the real files were made
        assert text.count(b"\x89\x88\x87") == 1
        return text.replace(b"\x89\x88\x87", old)

    members = {f"data_batch_{i + 1}": batch(images.x_train[2 * i : 2 * i + 2], images.y_train[2 * i : 2 * i + 2]) for i in range(5)}
    members["test_batch"] = batch(images.x_test, images.y_test)
    members["batches.meta"] = pickle.dumps({"label_names": list(data.CLASSES)})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    sums = {name: hashlib.md5(content).hexdigest() for name, content in members.items()}
    monkeypatch.setattr(cifar, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar, "meta", cifar.meta | {"md5": sums["batches.meta"]})
    monkeypatch.setattr(cifar, "tgz_md5", hashlib.md5(packed.getvalue()).hexdigest())
    return Official(images, packed.getvalue(), cifar.filename)


class Server(ThreadingHTTPServer):
    """Serves `content` on loopback, and misbehaves as told."""

    content = b""
    ranges = True
    status = 0  # answer only this
    stop_at: int | None = None  # bytes after which it ...
    stalls = False  # ... says no more, or else hangs up
    length = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.release = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/cifar.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers["Range"]
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if server.status or start >= len(server.content):
            self.send_error(server.status or 416)
            return
        self.send_response(206 if start else 200)
        if server.length:
            self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start : server.stop_at])
        if server.stalls:
            self.wfile.flush()
            server.release.wait(30)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(official: Official) -> Iterator[Server]:
    with Server() as server:
        server.content = official.archive
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def test_a_download_is_torchvisions_and_is_read(server: Server, official: Official, tmp_path: Path, capsys: pytest.CaptureFixture):
    files.download(tmp_path / "new" / ".data", server.url)
    assert same(data.load(REAL, tmp_path / "new" / ".data"), official.images)
    assert (tmp_path / "new" / ".data" / official.name).read_bytes() == official.archive
    assert "kB" in capsys.readouterr().err, "progress is shown"
    files.download(tmp_path / "new" / ".data", server.url)
    assert server.asked == [None], "what is there is not fetched again"


def test_the_address_is_torchvisions(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert files._torchvision().datasets.CIFAR10.url.endswith("/cifar-10-python.tar.gz")
    monkeypatch.setattr(files._torchvision().datasets.CIFAR10, "url", server.url)
    files.download(tmp_path)
    assert server.asked == [None]


@pytest.mark.parametrize("stalls", [False, True])
def test_an_interrupted_download_goes_on(server: Server, official: Official, tmp_path: Path, stalls: bool):
    server.stop_at, server.stalls = 5000, stalls
    problem = "nothing arrived for 0.2 s" if stalls else "closed early"
    with pytest.raises(DataError, match=rf"{problem}; 0\.0 of 0\.1 MB are kept: run the same command again.*{official.name}") as caught:
        files.download(tmp_path, server.url, timeout=0.2)
    assert "\n" not in str(caught.value)
    assert (tmp_path / f"{official.name}.part").read_bytes() == official.archive[:5000]
    server.stop_at, server.stalls = None, False
    files.download(tmp_path, server.url)
    assert server.asked == [None, "bytes=5000-"]
    assert same(data.load(REAL, tmp_path), official.images)
    assert not (tmp_path / f"{official.name}.part").exists()


def test_a_server_without_ranges_starts_again(server: Server, official: Official, tmp_path: Path):
    (tmp_path / f"{official.name}.part").write_bytes(b"x" * 5000)
    server.ranges = False
    files.download(tmp_path, server.url)
    assert same(data.load(REAL, tmp_path), official.images)


def test_a_download_that_was_complete_is_used(server: Server, official: Official, tmp_path: Path):
    (tmp_path / f"{official.name}.part").write_bytes(official.archive)
    files.download(tmp_path, server.url)
    assert same(data.load(REAL, tmp_path), official.images)


@pytest.mark.parametrize("length", [False, True])
def test_a_wrong_archive_is_removed(server: Server, tmp_path: Path, length: bool):
    server.content = b"not the archive"
    server.length = length
    with pytest.raises(DataError, match="does not have CIFAR-10's checksum and was removed; run the command again"):
        files.download(tmp_path, server.url)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_server_that_refuses_is_named(server: Server, tmp_path: Path):
    server.status = 503
    with pytest.raises(DataError, match=rf"{server.url}: the server answered 503 Service Unavailable; 0\.0 MB are kept"):
        files.download(tmp_path, server.url)


def test_a_server_that_is_away_is_named(tmp_path: Path):
    with Server() as away:
        url = away.url
    with pytest.raises(DataError, match=rf"{url}: .*refused.*run the same command again"):
        files.download(tmp_path, url)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write into .*file"):
        files.download(tmp_path / "file")


def test_damaged_official_files_are_not_unpickled(server: Server, tmp_path: Path):
    files.download(tmp_path, server.url)

    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="incomplete or damaged; remove it, then: bnlib data --download"):
        data.load(REAL, tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_only_the_known_fault_of_torchvision_is_mended(monkeypatch: pytest.MonkeyPatch):
    def broken(name: str) -> None:
        raise RuntimeError("another fault")

    monkeypatch.setattr(files.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="another fault"):
        files._torchvision()


# The synthetic set


def test_the_synthetic_set_is_the_same_everywhere(made: Dataset):
    assert made.variant == "synthetic"
    assert (len(made.x_train), len(made.x_test)) == (50_000, 10_000)


def test_the_synthetic_set_has_cifars_statistics(made: Dataset):
    np.testing.assert_allclose(255 * made.mean, [125.3, 123.0, 113.9], atol=1)
    np.testing.assert_allclose(255 * made.std, [63.0, 62.1, 66.7], atol=1)
    assert np.bincount(made.y_train).min() > 4500
    x = made.x_train[:1000].double() - made.x_train[:1000].double().mean()
    assert (x[..., 1:] * x[..., :-1]).mean() > 0.85 * x.square().mean(), "neighbouring pixels are alike"


def test_the_synthetic_classes_can_be_learnt(made: Dataset):
    def features(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(made.standardise(x), 4).flatten(1)

    x, targets = features(made.x_train[:10_000]), torch.nn.functional.one_hot(made.y_train[:10_000]).float()
    weights = torch.linalg.solve(x.T @ x + 100 * torch.eye(192), x.T @ targets)
    right = (features(made.x_test) @ weights).argmax(1) == made.y_test
    assert 0.3 < right.double().mean() < 0.4, "a third, as documented, where chance is a tenth"


def test_a_smaller_synthetic_set_is_not_the_known_one():
    small = data.synthetic(30, 10)
    assert (len(small.x_train), len(small.x_test), small.variant) == (30, 10, "unknown")
    assert small.fingerprint == data.synthetic(30, 10).fingerprint
    with pytest.raises(DataError, match=r"synthetic\(0, 10\): at least one"):
        data.synthetic(0, 10)


# What a network is given


def test_the_mini_batch_of_a_seed():
    dataset = data.from_images(some_images(300))
    x, y = data.batch(dataset, 3, 128)
    again, _ = data.batch(dataset, 3, 128)
    other, _ = data.batch(dataset, 4, 128)
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    standard = dataset.standardise(dataset.x_train)
    places = [int((standard == image).all((1, 2, 3)).nonzero()) for image in x]
    assert len(set(places)) == 128
    assert torch.equal(y, dataset.y_train[places])


def test_the_mini_batch_of_a_seed_never_changes():
    dataset = data.from_images(some_images(300))
    labelled = Dataset(**(vars(dataset) | {"y_train": torch.arange(300)}))
    assert data.batch(labelled, 0, 6)[1].tolist() == [44, 120, 71, 270, 111, 139]


def test_drawing_a_mini_batch_leaves_the_global_generator_alone():
    dataset, before = data.from_images(some_images()), torch.get_rng_state()
    data.batch(dataset, 0, 5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [0, 13])
def test_a_mini_batch_of_impossible_size_is_refused(size: int):
    with pytest.raises(DataError, match=f"mini-batch of {size} images cannot be drawn from 12"):
        data.batch(data.from_images(some_images()), 0, size)


def shifted(image: np.ndarray, down: int, right: int, mirrored: bool) -> np.ndarray:
    """One image moved by whole pixels on black, then mirrored: the slow way."""
    out = np.zeros_like(image)
    for row in range(32):
        for column in range(32):
            if 0 <= row - down < 32 and 0 <= column - right < 32:
                out[:, row, 31 - column if mirrored else column] = image[:, row - down, column - right]
    return out


def test_augmentation_is_a_shift_and_a_mirror_of_each_image():
    x = data.from_images(some_images(3)).x_train
    out = data.augment(x, data.random_moves(len(x), torch.Generator().manual_seed(1)))
    assert out.dtype == torch.uint8
    for image, result in zip(x.numpy(), out.numpy(), strict=True):
        moves = [(d, r, m) for d in range(-4, 5) for r in range(-4, 5) for m in (False, True)]
        assert sum(np.array_equal(shifted(image, *move), result) for move in moves) == 1


def test_augmentation_draws_every_move_as_often():
    moves = np.zeros((9, 9, 2), int)
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[0, :, 16, 8] = 1  # off the middle, so that a mirrored one is told apart
    out = data.augment(image.expand(16_200, 3, 32, 32), data.random_moves(16_200, torch.Generator().manual_seed(0)))
    where = out[:, 0].flatten(1).int().argmax(1)
    rows, columns = where // 32, where % 32
    mirrored = columns > 15
    np.add.at(moves, (rows - 12, torch.where(mirrored, 31 - columns, columns) - 4, mirrored.int()), 1)
    chi2 = ((moves - 100) ** 2 / 100).sum()  # mean 161, standard deviation 18
    assert 100 < chi2 < 230


def test_augmentation_depends_on_its_generator_alone():
    x, before = data.from_images(some_images(50)).x_train, torch.get_rng_state()
    one, two, other = (data.random_moves(len(x), torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    generator = torch.Generator().manual_seed(5)
    assert not torch.equal(data.random_moves(50, generator), data.random_moves(50, generator)), "each call draws anew"
