"""How fast one GPU trains, beside a plain PyTorch loop and beside what its memory allows.

    python bench/gpu.py [--data cifar10.npz] [--seconds 6] [--runs 2,4,8]

Everything in one process, one after another: copy bandwidth; for ResNet-110 and ResNet-20 at batch 128 a plain loop in the usual
style (a data set of PIL images, random crop and flip an image at a time, DataLoader with workers, eager, TF32), the same with
bf16 autocast and channels_last, and ours: eager, captured, compiled and captured, and several runs at once. Prints the section of
bench/README.md. Takes under five minutes; uses CIFAR-10 where it is at hand, else the synthetic images.

The roof: a fused step moves each activation 14.5 times. Forward, a convolution writes it, BN reads it for its statistics,
reads it again and writes it normalised (with ReLU and the sum), the next convolution reads it; every second one is read once more
by the shortcut. Backward, BN reads its input and the gradient twice and writes one; the two halves of the convolution read the
activation and, twice, the gradient, and write one.
"""

import argparse
import datetime
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from bnlib import data, nets, train
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.train.device import arithmetic, on_stream

BATCH = 128
PASSES = 14.5


class Usual(Dataset):
    """The training images as one gets them from torchvision's CIFAR10: PIL images, cropped and mirrored one at a time."""

    def __init__(self, images: data.Dataset) -> None:
        self.x, self.y = images.x_train.permute(0, 2, 3, 1).numpy(), images.y_train.tolist()
        self.mean, self.std = images.mean[:, None, None], images.std[:, None, None]

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        image = ImageOps.expand(Image.fromarray(self.x[i]), 4)
        top, left = torch.randint(0, 9, (2,)).tolist()
        image = image.crop((left, top, left + 32, top + 32))
        if torch.rand(()) < 0.5:
            image = ImageOps.mirror(image)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (x - self.mean) / self.std, self.y[i]


def plain(images: data.Dataset, depth: int, seconds: float, fast: bool) -> float:
    """Images/s of the usual loop; `fast` adds bf16 autocast and channels_last."""
    net = nets.build(ModelConfig(depth=depth), 0).cuda()
    if fast:
        net = net.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    loader = DataLoader(Usual(images), BATCH, shuffle=True, num_workers=min(8, os.cpu_count() or 1), pin_memory=True)

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    batches = endless()

    def step() -> int:
        x, y = (part.cuda(non_blocking=True) for part in next(batches))
        if fast:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16, enabled=fast):
            loss = F.cross_entropy(net(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()  # as the usual loop does for its running mean
        return len(x)

    with arithmetic(TrainConfig(precision="tf32")):
        return rate(step, seconds)


def rate(step: Callable[[], int], seconds: float, warm_up: int = 10) -> float:
    """Images/s of `step`, which says how many images it took, after a warm-up."""
    for _ in range(warm_up):
        step()
    torch.cuda.synchronize()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += step()
    torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def ours(images: data.Dataset, depth: int, seconds: float, engine: str, precision: str, runs: int = 1) -> float:
    """Images/s of `bnlib.train` in all, `runs` of it side by side, each a thread with its stream."""
    ready = threading.Barrier(runs)

    def one(seed: int) -> float:
        setting = TrainConfig(engine=engine, precision=precision)
        run = RunConfig("bench", seed, ModelConfig(depth=depth), DataConfig(train_size=len(images.y_train)), train=setting)
        with arithmetic(setting), on_stream("cuda"):
            trainer = train.Trainer(run, images, "cuda")
            made = 0

            def step() -> int:
                nonlocal made
                count = trainer.count
                trainer.advance()
                made += 1
                if made % 20 == 0:  # so that the host does not run ahead without end
                    torch.cuda.current_stream().synchronize()
                return count

            for _ in range(trainer.steps_per_epoch if runs == 1 else 10):  # a whole epoch captures both sizes of mini-batch
                step()
            torch.cuda.current_stream().synchronize()
            ready.wait()
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                count += step()
            torch.cuda.current_stream().synchronize()
            return count / (time.perf_counter() - start)

    with ThreadPoolExecutor(runs) as pool:
        return sum(pool.map(one, range(runs)))


def bandwidth() -> float:
    """Bytes/s that a copy within the device reads and writes."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        target.copy_(source)
    torch.cuda.synchronize()
    return 20 * 2 * 2**30 / (time.perf_counter() - start)


def activations(depth: int) -> int:
    """Numbers in the outputs of all convolutions for one image."""
    n = (depth - 2) // 6
    return 16 * 32 * 32 * (2 * n + 1) + 32 * 16 * 16 * 2 * n + 64 * 8 * 8 * 2 * n


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--runs", default="2,4,8", type=lambda text: [int(part) for part in text.split(",")])
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("bench/gpu.py needs a GPU; on a processor: bench/train.py")
    try:
        images = data.load(DataConfig(), args.data)
    except data.DataError:
        images = data.synthetic()
    on_device, copy = images.to("cuda"), bandwidth()
    device, torch_version = torch.cuda.get_device_name(), torch.__version__
    print(f"## Training on one GPU, batch {BATCH}\n")
    print(f"{datetime.date.today()}; {device}, {os.cpu_count()} cores; torch {torch_version}, CUDA {torch.version.cuda}; {images.variant}.")
    print(f"Copy bandwidth {copy / 1e12:.2f} TB/s. Roof: {PASSES} passes over the activations, in the arithmetic of the row.\n")
    print("| depth | loop | images/s | over the plain loop | of the roof |\n|---|---|---|---|---|")
    for depth in (110, 20):
        rows: list[tuple[str, int, Callable[[], float]]] = [
            ("plain, TF32", 4, lambda d=depth: plain(images, d, args.seconds, fast=False)),
            ("plain, bf16, channels_last", 2, lambda d=depth: plain(images, d, args.seconds, fast=True)),
        ]
        for name, size, engine, precision, runs in (
            ("ours, eager, bf16", 2, "eager", "bf16", 1),
            ("ours, graph, TF32", 4, "graph", "tf32", 1),
            ("ours, graph, bf16", 2, "graph", "bf16", 1),
            ("ours, compiled, bf16", 2, "compiled", "bf16", 1),
            *((f"ours, graph, bf16, {k} runs", 2, "graph", "bf16", k) for k in args.runs),
            *((f"ours, compiled, bf16, {k} runs", 2, "compiled", "bf16", k) for k in args.runs[-1:]),
        ):
            rows.append(
                (name, size, lambda d=depth, e=engine, p=precision, k=runs: ours(on_device, d, args.seconds, e, p, k)),
            )
        first = None
        for name, size, measure in rows:
            speed = measure()
            first = first or speed
            roof = copy / (PASSES * activations(depth) * size)
            print(f"| {depth} | {name} | {speed:,.0f} | {speed / first:.1f} | {speed / roof:.0%} |", flush=True)


if __name__ == "__main__":
    main()
