"""What the probes cost: one forward and backward pass of ResNet-110 at batch 128, bare and with all probes.

    python bench/probes.py [--pairs 7] [--depth 110] [--batch 128]

Time: bare and probed passes by turns, the median of the ratios of neighbours, by the clock and in processor time, which other
work on the machine disturbs less. Peak memory: each kind of pass in its own process,
`ru_maxrss`, with the interpreter and libraries (whole) and without them (pass). Prints the section of bench/README.md.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from bnlib import nets, probes, provenance
from bnlib.config import ModelConfig

KINDS = ("bare", "probed")
NORMS = ("batch", "none")


def one_pass(kind: str, net: nets.ResNet, x: torch.Tensor, y: torch.Tensor) -> None:
    """Forward and backward, `bare` or `probed`."""
    if kind == "probed":
        probes.at_initialisation(net, x, y)
    else:
        torch.autograd.grad(F.cross_entropy(net(x), y), [*net.parameters()])


def setting(norm: str, depth: int, batch: int) -> tuple[nets.ResNet, torch.Tensor, torch.Tensor]:
    """A net, images and labels."""
    generator = torch.Generator().manual_seed(0)
    net = nets.build(ModelConfig(depth=depth, norm=norm), seed=0)  # type: ignore[arg-type]
    return net, torch.randn(batch, 3, 32, 32, generator=generator), torch.randint(0, 10, (batch,), generator=generator)


def seconds(norm: str, depth: int, batch: int, pairs: int) -> dict[str, list[tuple[float, float]]]:
    """Clock and processor time of `pairs` passes of either kind, by turns, after one of each to warm up."""
    given = setting(norm, depth, batch)
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(pairs + 1):
        for kind in KINDS:
            clock, processor = time.perf_counter(), time.process_time()
            one_pass(kind, *given)
            times[kind].append((time.perf_counter() - clock, time.process_time() - processor))
    return {kind: taken[1:] for kind, taken in times.items()}


def resident() -> float:
    """The peak memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def peak(kind: str, norm: str, depth: int, batch: int) -> tuple[float, float]:
    """Peak memory of a fresh process that makes one pass: whole, and above what it had before the pass; MiB."""
    command = [sys.executable, __file__, "--peak", kind, norm, "--depth", str(depth), "--batch", str(batch)]
    whole, before = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    return whole, whole - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--depth", type=int, default=110)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        kind, norm = args.peak
        given = setting(norm, args.depth, args.batch)
        before = resident()
        one_pass(kind, *given)
        print(resident(), before)
        return

    env, hardware = provenance.env(), provenance.hardware()
    print(f"## Probes: ResNet-{args.depth}, batch {args.batch}, fp32\n")
    print(f"{hardware['name']}, {hardware['cores']} cores; threads: {env['threads']}, torch {env['torch']}, python {env['python']}.")
    print(f"Ratios are probed / bare; time: median [least, most] of {args.pairs} pairs. Allowed: 3 in time, 1.3 in peak memory.\n")
    print("| norm | bare, s | probed, s | clock ratio | processor ratio | bare peak, MiB | probed peak, MiB | whole ratio | pass ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    # First, because a child of a large process starts with its parent's peak on Linux.
    peaks = {norm: [peak(kind, norm, args.depth, args.batch) for kind in KINDS] for norm in NORMS}
    for norm in NORMS:
        times = seconds(norm, args.depth, args.batch, args.pairs)
        cells = [norm, *(f"{statistics.median(clock for clock, _ in times[kind]):.1f}" for kind in KINDS)]
        for watch in (0, 1):
            ratios = [probed[watch] / bare[watch] for bare, probed in zip(times["bare"], times["probed"], strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")
        (bare, bare_pass), (probed, probed_pass) = peaks[norm]
        cells += [f"{bare:.0f}", f"{probed:.0f}", f"{probed / bare:.2f}", f"{probed_pass / bare_pass:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
