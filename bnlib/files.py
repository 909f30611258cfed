"""CIFAR-10's files: fetched, checked, read as arrays."""

import hashlib
import http.client
import importlib
import tarfile
import urllib.error
import urllib.request
import warnings
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn


class DataError(ValueError):
    """Images that cannot be had. The message says what is wrong and the way out."""


class Images(NamedTuple):
    """Images and labels 0 to 9, as an `.npz` holds them."""

    x_train: UInt8[np.ndarray, "train 32 32 3"]
    y_train: Int[np.ndarray, " train"]
    x_test: UInt8[np.ndarray, "test 32 32 3"]
    y_test: Int[np.ndarray, " test"]


def read(place: Path) -> Images:
    """Read an `.npz` file, or a folder with `cifar10.npz`, torchvision's `cifar-10-batches-py`, or mosaics. Raises DataError."""
    if place.is_file():
        return _read_npz(place)
    if (place / "cifar10.npz").exists():
        return _read_npz(place / "cifar10.npz")
    if (place / "cifar-10-batches-py").exists():
        return _read_official(place)
    if (place / "cifar10_labels.npz").exists():
        return _read_mosaics(place)
    raise DataError(f"{place} holds neither cifar10.npz nor cifar-10-batches-py; to fetch CIFAR-10 into it: bnlib data --download {place}")


def download(folder: Path, url: str | None = None, timeout: float = 30.0) -> None:
    """Fetch CIFAR-10 into `folder` as torchvision does: its archive, checksum and layout. Raises DataError.

    What an interrupted download has got stays there, and the next call goes on from it. `url` names another server,
    `timeout` the seconds without a byte after which to give up.
    """
    cifar = _torchvision().datasets.CIFAR10
    archive, target = folder / cifar.filename, folder / cifar.base_folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        if not (archive.exists() and _md5(archive) == cifar.tgz_md5):
            _fetch(url or cifar.url, archive, cifar.tgz_md5, timeout)
        with tarfile.open(archive) as tar:
            for name in (cifar.meta["filename"], *(name for name, _ in cifar.train_list + cifar.test_list)):
                member = tar.extractfile(f"{cifar.base_folder}/{name}")
                assert member is not None  # the checksum says what is in the archive
                (target / name).write_bytes(member.read())
    except OSError as error:
        raise DataError(f"cannot write into {folder}: {error.strerror}") from None


def _fetch(url: str, archive: Path, md5: str, timeout: float) -> None:
    part = archive.with_name(archive.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    total, problem = None, None
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            have = have if reply.status == HTTPStatus.PARTIAL_CONTENT else 0  # a server may ignore the range
            total = have + int(reply.headers["Content-Length"]) if "Content-Length" in reply.headers else None
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            with part.open("ab" if have else "wb") as f, Progress(*columns, console=Console(stderr=True)) as progress:
                task = progress.add_task("", total=total, completed=have)
                while block := reply.read1(1 << 16):
                    f.write(block)
                    have += len(block)
                    progress.advance(task, len(block))
        if total is not None and have < total:
            problem = "the connection was closed early"
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # which says that nothing follows what we have
            problem = f"the server answered {error.code} {error.reason}"
    except (OSError, http.client.HTTPException) as error:  # refused, unknown host, timed out, disk full
        reason = getattr(error, "reason", error)
        problem = f"nothing arrived for {timeout:g} s" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__
    if problem:
        got = f"{have / 1e6:.1f}" + (f" of {total / 1e6:.1f}" if total else "") + " MB are kept"
        raise DataError(f"{url}: {problem}; {got}: run the same command again to go on, or put the file at {archive} yourself")
    if _md5(part) != md5:
        part.unlink()
        raise DataError(f"{url}: what arrived does not have CIFAR-10's checksum and was removed; run the command again or name another URL")
    part.replace(archive)


def _md5(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


_kept: list[Any] = []  # PyTorch forgets an operator when its library is collected


def _torchvision() -> ModuleType:
    """torchvision, also where its compiled operators cannot load: PyTorch for the CPU beside torchvision for CUDA."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _kept.append(library)
    return importlib.import_module("torchvision")


def _read_npz(path: Path) -> Images:
    try:
        with path.open("rb") as f, np.load(f) as held:
            arrays = {name: held[name] for name in held.files}
    except Exception:  # damage surfaces anywhere in zipfile, zlib, ast and tokenize, each with its own exceptions
        raise DataError(f"{path} is not a whole .npz of plain arrays; make it again with: bnlib data --save {path.name}") from None
    if missing := [name for name in Images._fields if name not in arrays]:
        raise DataError(f"{path} has no {missing[0]}; it has {', '.join(arrays)}, and needs {', '.join(Images._fields)}")
    return _checked(path, **{name: arrays[name] for name in Images._fields})


def _read_official(folder: Path) -> Images:
    cifar = _torchvision().datasets.CIFAR10
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)  # an old NumPy wrote these files
            train, test = (cifar(folder, train=part) for part in (True, False))  # compares their checksums before it reads them
    except RuntimeError:
        place = folder / cifar.base_folder
        raise DataError(f"{place} is incomplete or damaged; remove it, then: bnlib data --download {folder}") from None
    return _checked(folder, train.data, np.array(train.targets), test.data, np.array(test.targets))


def _read_mosaics(folder: Path) -> Images:
    """Pictures of images side by side, row by row, in CIFAR-10's order; five sixths of the images are for training."""
    from PIL import Image  # comes with torchvision

    try:
        with (folder / "cifar10_labels.npz").open("rb") as f, np.load(f) as held:
            y = held["y"]
        tiles = []
        for path in sorted(folder.glob("cifar10_*.webp")):
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
            tiles.append(pixels.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3))
        x = np.concatenate(tiles)
    except Exception as error:
        raise DataError(f"the mosaics in {folder} cannot be read, copy them again: {error}") from None
    if len(x) != len(y):
        raise DataError(f"the mosaics in {folder} hold {len(x)} images, but there are {len(y)} labels; copy them again")
    train = len(x) * 5 // 6
    return _checked(folder, x[:train], y[:train], x[train:], y[train:])


def _checked(path: Path, x_train: Any, y_train: Any, x_test: Any, y_test: Any) -> Images:
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1:] != (32, 32, 3) or not len(x):
            raise DataError(f"{path}: x_{part} is {x.dtype} {x.shape}; it must be uint8, N x 32 x 32 x 3")
        if not np.issubdtype(y.dtype, np.integer) or y.shape != x.shape[:1] or y.min() < 0 or y.max() > 9:
            raise DataError(f"{path}: y_{part} is {y.dtype} {y.shape}; it must hold {len(x)} whole numbers from 0 to 9")
    return Images(x_train, y_train, x_test, y_test)
