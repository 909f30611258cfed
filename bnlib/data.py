"""CIFAR-10 as tensors, or a synthetic set in its place, always with a fingerprint that says which."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from bnlib import files
from bnlib.config import DataConfig
from bnlib.files import DataError as DataError
from bnlib.files import Images

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ABOUT = {
    "official": "the official CIFAR-10 files",
    "shared copy": "CIFAR-10 with 92 of its 60,000 images (72 of them training images) decoded from JPEG",
    "synthetic": "synthetic images, not CIFAR-10",
    "unknown": "images that are not CIFAR-10's",
}


@dataclass(frozen=True)
class Dataset:
    """Images, labels, mean and standard deviation of `x_train / 255` per channel; fingerprint and variant say which images."""

    x_train: UInt8[Tensor, "train 3 32 32"]
    y_train: Int64[Tensor, " train"]
    x_test: UInt8[Tensor, "test 3 32 32"]
    y_test: Int64[Tensor, " test"]
    mean: Float[Tensor, "3"]
    std: Float[Tensor, "3"]
    fingerprint: str
    variant: str

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data on `device`."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    def standardise(self, x: UInt8[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch 3 32 32"]:
        """(x / 255 - mean) / std, per channel."""
        return (x / 255 - self.mean[:, None, None]) / self.std[:, None, None]

    def require_known(self) -> None:
        """Raise DataError for images with which no record can be compared."""
        if KNOWN.get(self.fingerprint) != self.variant:
            raise DataError(f"no record is made of {ABOUT[self.variant]} (fingerprint {self.fingerprint[:12]}): give all of CIFAR-10")


def load(config: DataConfig, where: Path | str | None = None) -> Dataset:
    """The images that `config` asks for, each file format described in `bnlib.files.read`. Raises DataError.

    `where` is a file or folder; by default $BNLIB_DATA, else `.data` in or above the working folder. Nothing is downloaded.
    """
    if config.source == "synthetic":
        return synthetic()
    if named := where or os.environ.get("BNLIB_DATA"):
        place = Path(named).expanduser()
        if not place.exists():
            raise DataError(f"{place} does not exist; to fetch CIFAR-10 into a folder: bnlib data --download {place}")
        return from_images(files.read(place))
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / ".data").is_dir():
            return from_images(files.read(folder / ".data"))
    raise DataError("no CIFAR-10 here: name its folder or .npz with --data or $BNLIB_DATA, or fetch it: bnlib data --download .data")


def from_images(images: Images) -> Dataset:
    """The dataset of images and labels held as arrays, with its statistics and its fingerprint. Raises DataError."""
    x_train, x_test = (torch.from_numpy(x).permute(0, 3, 1, 2).contiguous() for x in (images.x_train, images.x_test))
    y_train, y_test = (torch.from_numpy(y.astype(np.int64)) for y in (images.y_train, images.y_test))
    mean, std = _moments(x_train)
    if not bool((std > 0).all()):
        raise DataError("a channel of the training images has one value only, so they cannot be standardised")
    name = fingerprint(x_train, y_train, x_test, y_test)
    return Dataset(x_train, y_train, x_test, y_test, mean, std, name, KNOWN.get(name, "unknown"))


def save(dataset: Dataset, path: Path) -> None:
    """Write an `.npz`, not compressed, that `load` reads in under a second. Raises DataError where it exists or cannot be written."""
    if path.suffix != ".npz" or path.exists():
        raise DataError(f"{path} exists; name another file" if path.exists() else f"{path}: name a file that ends in .npz")
    x_train, x_test = (x.permute(0, 2, 3, 1).contiguous().cpu().numpy() for x in (dataset.x_train, dataset.x_test))
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as f:
            np.savez(f, x_train=x_train, y_train=dataset.y_train.cpu(), x_test=x_test, y_test=dataset.y_test.cpu())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror}") from None


def _moments(x: UInt8[Tensor, "n 3 32 32"]) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    total = torch.zeros(2, 3, dtype=torch.float64)
    for i in range(0, len(x), 100):
        values = x[i : i + 100].reshape(-1, 3, 4, 256).float()  # 256 squares of bytes sum exactly in float32, in any order
        total += torch.stack([values.sum(-1), values.square().sum(-1)]).double().sum((1, 3))
    mean, square = total / (x.numel() // 3)
    return (mean / 255).float(), ((square - mean**2).sqrt() / 255).float()


def fingerprint(
    x_train: UInt8[Tensor, "train 3 32 32"],
    y_train: Int64[Tensor, " train"],
    x_test: UInt8[Tensor, "test 3 32 32"],
    y_test: Int64[Tensor, " test"],
) -> str:
    """SHA-256 over the SHA-1 sums of the images in CIFAR-10's binary layout, training images first.

    In that layout an image is a byte for its label, then 3 x 32 x 32 pixels, and a batch is 10,000 images. So the
    fingerprint of the official files follows from their published sums.
    """

    def sums(x: Tensor, y: Tensor) -> list[str]:
        batches = (slice(i, i + 10_000) for i in range(0, len(x), 10_000))
        rows = (torch.cat([y[b, None].to(torch.uint8), x[b].flatten(1)], dim=1).numpy() for b in batches)
        return [hashlib.sha1(batch.data, usedforsecurity=False).hexdigest() for batch in rows]

    return _combine(sums(x_train, y_train), sums(x_test, y_test))


def _combine(train: list[str], test: list[str]) -> str:
    return hashlib.sha256("\n".join(["train", *train, "test", *test]).encode()).hexdigest()


_OFFICIAL = (  # data_batch_1.bin to data_batch_5.bin, test_batch.bin, as MXNet's gluon.data.vision.CIFAR10 checks them
    "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "67eb016db431130d61cd03c7ad570b013799c88c",
)
KNOWN = {  # fingerprint: variant
    _combine(list(_OFFICIAL[:5]), [_OFFICIAL[5]]): "official",
    "501506021cf5260c8db9664380b5d8cd8025786d24f6b68f2e9f20a45813468c": "shared copy",
    "4b1daae873221450a3b5e6e0b42a99c5a5730687fb10987d63551e4afa59b916": "synthetic",
}


def batch(dataset: Dataset, seed: int, size: int) -> tuple[Float[Tensor, "size 3 32 32"], Int64[Tensor, " size"]]:
    """The mini-batch of a seed: `size` different training images, standardised, not augmented. Raises DataError on too few images."""
    count = len(dataset.y_train)
    if not 1 <= size <= count:
        raise DataError(f"a mini-batch of {size} images cannot be drawn from {count}")
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:size].to(dataset.x_train.device)
    return dataset.standardise(dataset.x_train[chosen]), dataset.y_train[chosen]


def augment(x: UInt8[Tensor, "batch 3 32 32"], moves: Int64[Tensor, "batch 3"]) -> UInt8[Tensor, "batch 3 32 32"]:
    """Each image padded by 4 black pixels, cropped to 32 x 32 at (top, left), and mirrored where the third number is 1.

    One gather for the whole mini-batch, on the device of `x` and `moves` (He et al. 2016, Sec 4.2).
    """
    count, device = len(x), x.device
    top, left, mirrored = moves[:, :, None].unbind(1)
    pixels = torch.arange(32, device=device)
    rows, columns = top + pixels, left + torch.where(mirrored == 1, pixels.flip(0), pixels)
    image, channel = torch.arange(count, device=device)[:, None, None, None], torch.arange(3, device=device)[:, None, None]
    return F.pad(x, (4, 4, 4, 4))[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_moves(count: int, generator: torch.Generator) -> Int64[Tensor, "count 3"]:
    """What `augment` does to each of `count` images: any of the 9 x 9 places, and a mirror image or none, all as likely."""
    place = torch.randint(0, 9, (2, count, 1), generator=generator)
    mirrored = torch.randint(0, 2, (count, 1), generator=generator)
    return torch.cat([*place, mirrored], dim=1)


def synthetic(train: int = 50_000, test: int = 10_000) -> Dataset:
    """Images to learn from where CIFAR-10 is not at hand: the same bytes on every machine, CIFAR-10's channel statistics.

    An image is a smooth random background, its class's pattern added at a random place, and pixel noise. A linear
    classifier gets about a third of the classes right, a small convolutional network nearly all. Only the default
    sizes have a known fingerprint. Raises DataError on a size below 1.
    """
    if train < 1 or test < 1:
        raise DataError(f"synthetic({train}, {test}): at least one training and one test image are needed")
    n = train + test
    y = _below(10, n, stream=0)
    coarse = _colours(n, 8, stream=1)
    patterns = _colours(10, 4, stream=2)
    rows, columns = (_below(5, n, stream)[:, None] + np.arange(4) for stream in (3, 4))
    coarse[np.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]] += patterns.transpose(0, 2, 3, 1)[y]
    noise = _bytes(n * 3 * 32 * 32, stream=5).reshape(n, 3, 32, 32)
    x = np.concatenate([_develop(coarse[i : i + 1000], noise[i : i + 1000]) for i in range(0, n, 1000)])
    return from_images(Images(x[:train], y[:train], x[train:], y[train:]))


def _bytes(count: int, stream: int) -> UInt8[np.ndarray, " count"]:
    # NumPy promises that the raw stream of a bit generator never changes, but not so the distributions drawn from it.
    words = np.random.PCG64([10, stream]).random_raw(-(-count // 8))
    return words.astype("<u8").view(np.uint8)[:count]


def _below(limit: int, count: int, stream: int) -> Int64[np.ndarray, " count"]:
    return _bytes(count, stream).astype(np.int64) * limit >> 8


def _colours(count: int, size: int, stream: int) -> Int[np.ndarray, "count 3 size size"]:
    """Random colours; most of their variance is brightness, which the channels share."""
    parts = _bytes(count * 4 * size * size, stream).reshape(count, 4, size, size).astype(np.int32) - 128
    return 3 * parts[:, :1] + parts[:, 1:]


def _develop(coarse: Int[np.ndarray, "batch 3 8 8"], noise: UInt8[np.ndarray, "batch 3 32 32"]) -> UInt8[np.ndarray, "batch 32 32 3"]:
    """Enlarge four times, bilinearly and in whole numbers; add the noise; give each channel CIFAR-10's mean and deviation."""
    blur = np.zeros((32, 8), np.float32)  # float32 is fast and holds these whole numbers exactly
    for i in range(32):
        cell, eighths = divmod(2 * i - 3, 8)
        blur[i, max(cell, 0)] += 8 - eighths
        blur[i, min(cell + 1, 7)] += eighths
    z = (blur @ coarse.astype(np.float32) @ blur.T).astype(np.int32) + 30 * (noise.astype(np.int32) - 128)
    gain, offset = np.array([[368, 361, 399], [127, 124, 114]], np.int32)[:, :, None, None]
    x: UInt8[np.ndarray, "batch 3 32 32"] = np.clip((z * gain >> 16) + offset, 0, 255).astype(np.uint8)
    return x.transpose(0, 2, 3, 1)
