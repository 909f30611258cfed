"""What training costs: `bnlib.train` against a plain PyTorch loop in the usual style, in images a second.

    python bench/train.py [--data cifar10.npz] [--rounds 5] [--images 1024] [--threads 1] [--depths 8 20 56 110]

The plain loop has torchvision's transforms on PIL images, a DataLoader with 2 worker processes, and the same network, optimiser,
batch and threads. A round is one pass over the images, by turns; workers stay alive between rounds, and one round to warm up does
not count. bf16 is `bnlib.train` in bf16 against the plain loop in fp32, where the processor has AVX512-bf16. Peak memory: a
process of its own, two updates of ResNet-110 at batch 128. Prints the section of bench/README.md.
"""

import argparse
import datetime
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from bnlib import data, files, nets, provenance, train
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig

torchvision = files._torchvision()  # also where its compiled operators, which nothing here needs, cannot load
BATCH, LR = 128, 0.01
FOREVER = 10**6  # epochs


def config(depth: int, images: int, precision: str, threads: int) -> RunConfig:
    """A run without an end, its test next to nothing."""
    setting = TrainConfig(lr=LR, batch=BATCH, epochs=FOREVER, schedule="constant", precision=precision, threads=threads)  # type: ignore[arg-type]
    return RunConfig("bench", 0, ModelConfig(depth=depth), DataConfig(train_size=images, test_size=1), train=setting)


def ours(dataset: data.Dataset, depth: int, images: int, precision: str, threads: int) -> Callable[[], None]:
    """A function that makes one pass over the images."""
    trainer = train.Trainer(config(depth, images, precision, threads), dataset)

    def at_end_of_epoch(trainer: train.Trainer) -> None:
        if trainer.step % trainer.steps_per_epoch == 0:
            raise train.Stopped

    def one_pass() -> None:
        try:
            trainer.finish([at_end_of_epoch])
        except train.Stopped:
            return
        raise RuntimeError(f"ResNet-{depth} diverged: choose a smaller rate")

    return one_pass


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """PIL images in memory, transformed one by one, as torchvision's CIFAR10 does it."""

    def __init__(self, dataset: data.Dataset, images: int) -> None:
        self.x = dataset.x_train[:images].permute(0, 2, 3, 1).numpy()
        self.y = dataset.y_train[:images].tolist()
        transforms = torchvision.transforms
        self.transform = transforms.Compose([
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(dataset.mean.tolist(), dataset.std.tolist()),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.x[i])), self.y[i]


def plain(dataset: data.Dataset, depth: int, images: int) -> Callable[[], None]:
    """The same, in the usual style."""
    loader = DataLoader(Pictures(dataset, images), batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    net = nets.build(ModelConfig(depth=depth), seed=0)
    optimiser = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()

    def one_pass() -> None:
        total, right, seen = 0.0, 0, 0
        for x, y in loader:
            logits = net(x)
            loss = criterion(logits, y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(y)
            right += (logits.argmax(1) == y).sum().item()
            seen += len(y)
        if not math.isfinite(total):
            raise RuntimeError(f"the plain ResNet-{depth} diverged: choose a smaller rate")

    return one_pass


def rates(passes: dict[str, Callable[[], None]], images: int, rounds: int) -> dict[str, list[float]]:
    """Images a second of each, by turns, the order turned round each time; the first round warms up and is left out."""
    found: dict[str, list[float]] = {name: [] for name in passes}
    for i in range(rounds + 1):
        for name in sorted(passes, reverse=i % 2 == 1):
            clock = time.perf_counter()
            passes[name]()
            found[name].append(images / (time.perf_counter() - clock))
    return {name: values[1:] for name, values in found.items()}


def shown(values: list[float], form: str) -> str:
    """Median [least, most]."""
    return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def peak(depth: int) -> float:
    """Peak memory of a fresh process that makes two updates, MiB."""
    command = [sys.executable, __file__, "--peak", str(depth)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(depth: int) -> None:
    """Make two updates on synthetic images, and print this process's peak memory."""
    run = RunConfig(
        "bench", 0, ModelConfig(depth=depth), DataConfig("synthetic", 2 * BATCH, 1), train=TrainConfig(lr=LR, batch=BATCH, steps=2)
    )
    train.train(run, data.synthetic(2 * BATCH, 1))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def has_bf16() -> bool:
    """Whether the processor multiplies in bf16."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10, as a folder or .npz; synthetic images without it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1024, help="in a pass")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 20, 56, 110])
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak)
        return
    memory = peak(110)  # first, because a child of a large process starts with its parent's peak on Linux
    dataset = data.load(DataConfig(), args.data) if args.data else data.synthetic(args.images, 1)
    torch.set_num_threads(args.threads)
    env, hardware = provenance.env(), provenance.hardware()
    print(f"## Training: batch {BATCH}, {args.images} images a pass, {dataset.variant if args.data else 'synthetic'} images\n")
    print(f"{datetime.date.today()}; {hardware['name']}, {hardware['cores']} cores; threads: {args.threads}, and 2 workers of the plain")
    print(f"loop; torch {env['torch']}, torchvision {torchvision.__version__}, python {env['python']}. Images/s and ratios: median [least,")
    print(f"most] of {args.rounds} rounds by turns. Wanted: 1.15 in fp32 at every depth; 1.5 in bf16 at depths 20 and 56.")
    print(f"bf16: {'measured' if has_bf16() else 'not measured, for this processor has no AVX512-bf16'}.")
    print(f"Peak memory of ResNet-110 in training, with interpreter and libraries: {memory:.0f} MiB.\n")
    print("| depth | precision | bnlib.train, images/s | plain loop (fp32), images/s | ratio |")
    print("|---|---|---|---|---|")
    for depth in args.depths:
        passes = {"plain": plain(dataset, depth, args.images)}
        passes |= {
            precision: ours(dataset, depth, args.images, precision, args.threads) for precision in ["fp32", "bf16"][: 1 + has_bf16()]
        }
        found = rates(passes, args.images, args.rounds)
        base = found.pop("plain")
        for precision, values in found.items():
            ratios = [a / b for a, b in zip(values, base, strict=True)]
            print(f"| {depth} | {precision} | {shown(values, '.0f')} | {shown(base, '.0f')} | {shown(ratios, '.2f')} |", flush=True)
    options = " ".join(sys.argv[1:])
    print(f"\nMade by `python bench/train.py{' ' + options if options else ''}`.")


if __name__ == "__main__":
    main()
