"""The CIFAR ResNet of He et al. (2016, Sec 4.2) with a switchable normaliser, initialisation, shortcut and block.

Weight layers are numbered 1 ... depth = 6n + 2: the first convolution is 1, stage s = 1, 2, 3 (16, 32, 64 channels) holds the
2n layers 2n(s - 1) + 2 ... 2ns + 1, the linear layer is `depth`. At depth 110 the stages are 2-37, 38-73 and 74-109, and the net
has 1,730,714 parameters (1,727,962 with option-A shortcuts). Projections carry no number.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bnlib.config import ModelConfig

WIDTHS = (16, 32, 64)
CLASSES = 10
GROUP = 8  # channels in a group of the "group" normaliser

NORMALISERS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "group": lambda channels: nn.GroupNorm(channels // GROUP, channels),
    "instance": lambda channels: nn.GroupNorm(channels, channels),
}
"""Those that follow every convolution, by name in `config.Norm`: from the number of channels to a module. `CONTRIBUTING.md` adds one."""


def build(config: ModelConfig, seed: int) -> "ResNet":
    """A freshly initialised network in training mode. The global random state is neither read nor changed.

    Convolutions: "xavier" N(0, 2 / (fan_in + fan_out)), "he" N(0, 2 / fan_out), "torch" U(-1, 1) / sqrt(fan_in).
    Their biases, present only where nothing normalises the output, start at zero. The linear layer takes PyTorch's default,
    U(-1, 1) / sqrt(64), weight and bias. Normalisers start at gamma = 1, beta = 0.

    Fixup (Zhang et al. 2019) prescribes its own and does not look at `config.init`: He's for every convolution, times L^(-1/2)
    (L blocks) for the first of each residual branch; zero for the second, and for the linear layer.

    Equal seeds give equal layers 1 ... depth whatever the normaliser, the shortcut and, Fixup apart, the block.
    """
    with torch.device("meta"):  # allocates nothing and draws nothing
        net = ResNet(config)
    net.to_empty(device="cpu")
    _initialise(net, torch.Generator().manual_seed(seed))
    return net


class Shift(nn.Module):
    """x + bias with one scalar bias, zero at first (Fixup)."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(()))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return x + self.bias


class Gain(nn.Module):
    """alpha * x with one scalar alpha: 1 at first in Fixup, 0 in SkipInit (De & Smith, 2020)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start
        self.alpha = nn.Parameter(torch.empty(()))

    def reset_parameters(self) -> None:
        nn.init.constant_(self.alpha, self.start)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.alpha * x


class Pad(nn.Module):
    """Option A of He et al.: every second pixel, and zeros for the new channels, half on either side."""

    def __init__(self, new: int) -> None:
        super().__init__()
        self.new = new

    def forward(self, x: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch c2 height2 width2"]:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))


class Block(nn.Module):
    """relu(branch(x) + shortcut(x)), or relu(branch(x)) in a plain network."""

    def __init__(self, c_in: int, c_out: int, config: ModelConfig) -> None:
        super().__init__()
        self.plain = config.block == "plain"
        stride = 1 if c_in == c_out else 2
        first, second = _conv(c_in, c_out, 3, stride, config), _conv(c_out, c_out, 3, 1, config)
        if config.block == "fixup":
            self.branch = nn.Sequential(Shift(), first, Shift(), nn.ReLU(), Shift(), second, Gain(1.0), Shift())
        else:
            end = [Gain(0.0)] if config.block == "skipinit" else []
            self.branch = nn.Sequential(first, _norm(c_out, config), nn.ReLU(), second, _norm(c_out, config), *end)
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2 and not self.plain:
            projection = nn.Sequential(*_shift(config), _conv(c_in, c_out, 1, stride, config), _norm(c_out, config))
            self.shortcut = projection if config.shortcut == "projection" else Pad(c_out - c_in)

    def forward(self, x: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch c2 height2 width2"]:
        out: Tensor = self.branch(x)
        return F.relu(out if self.plain else out + self.shortcut(x))


class ResNet(nn.Module):
    """Convolution, three stages of n blocks, global average pooling, linear layer. Made by `build`.

    `config.norm`, always with eps = 1e-5 and one gamma and beta a channel:
    "batch" BN after every convolution; "layer", "group", "instance" group normalisation there instead, with all channels, 8 or 1
    in a group; "last-features" one BN, on the output of the last block; "last-logits" one BN, on the 10 logits; "none" nothing.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        n = (config.depth - 2) // 6
        channels = [WIDTHS[0], *(width for width in WIDTHS for _ in range(n))]
        self.stem = nn.Sequential(_conv(3, WIDTHS[0], 3, 1, config), *_shift(config), _norm(WIDTHS[0], config), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(c_in, c_out, config) for c_in, c_out in pairwise(channels)))
        self.features_norm = nn.BatchNorm2d(WIDTHS[-1]) if config.norm == "last-features" else nn.Identity()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *_shift(config))
        self.linear = nn.Linear(WIDTHS[-1], CLASSES)
        self.logits_norm = nn.BatchNorm1d(CLASSES) if config.norm == "last-logits" else nn.Identity()

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 10"]:
        features = self.pool(self.features_norm(self.blocks(self.stem(x))))
        logits: Tensor = self.logits_norm(self.linear(features))
        return logits

    def convolutions(self) -> dict[int, nn.Conv2d]:
        """The 3 x 3 convolutions by layer number, 1 ... depth - 1."""
        paths = [self.stem, *(block.branch for block in self.blocks if isinstance(block, Block))]
        return dict(enumerate((m for path in paths for m in path if isinstance(m, nn.Conv2d)), start=1))

    def layers(self) -> dict[int, nn.Conv2d | nn.Linear]:
        """All weight layers by number, 1 ... depth; the last is the linear layer."""
        return {**self.convolutions(), self.config.depth: self.linear}

    def projections(self) -> dict[int, nn.Conv2d]:
        """The 1 x 1 shortcut convolutions, by the number of the layer beside which they start (38 and 74 at depth 110)."""
        shortcuts = {2 * k + 2: block.shortcut for k, block in enumerate(self.blocks) if isinstance(block, Block)}
        return {layer: m for layer, shortcut in shortcuts.items() for m in shortcut.modules() if isinstance(m, nn.Conv2d)}


def apply(
    net: nn.Module, x: Float[Tensor, "batch 3 height width"], weights: Mapping[str, Tensor] | None = None
) -> Float[Tensor, "batch 10"]:
    """net(x), with `weights` in place of its own of the same names; `net` is left as it was, BN's running averages too."""
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}  # takes the updates of BN's running averages
    logits: Tensor = torch.func.functional_call(net, {**(weights or {}), **buffers}, (x,))
    return logits


def layer_at(depth: int, layer: int) -> int:
    """The layer that has in a net of this depth the place of `layer` at depth 110: same stage, same convolution of its block.

    Block k = 0 ... 17 of the stage maps to the block at the same relative place, floor((k + 1/2) n / 18).
    Raises ValueError unless 1 <= layer <= 110.
    """
    if not 1 <= layer <= 110:
        raise ValueError(f"layer {layer} is not in a net of depth 110; choose 1 to 110")
    if layer in (1, 110):
        return 1 if layer == 1 else depth
    n = (depth - 2) // 6
    stage, place = divmod(layer - 2, 36)
    block, second = divmod(place, 2)
    return 2 * (n * stage + (2 * block + 1) * n // 36) + second + 2


def parameter_groups(net: ResNet, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for `torch.optim.SGD`: one, or with Fixup and SkipInit a second for biases and scalars at a tenth of the rate.

    Weight decay applies to every parameter, as in He et al. (2016) and in Fixup's own code.
    """
    two = net.config.block in ("fixup", "skipinit")
    slow = [p for p in net.parameters() if two and p.ndim < 2]
    fast = [p for p in net.parameters() if not (two and p.ndim < 2)]
    groups = [{"params": fast, "lr": lr, "weight_decay": weight_decay}, {"params": slow, "lr": lr / 10, "weight_decay": weight_decay}]
    return groups if two else groups[:1]


def _conv(c_in: int, c_out: int, size: int, stride: int, config: ModelConfig) -> nn.Conv2d:
    bias = config.norm not in NORMALISERS and config.block != "fixup"
    return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=bias)


def _norm(channels: int, config: ModelConfig) -> nn.Module:
    return NORMALISERS[config.norm](channels) if config.norm in NORMALISERS else nn.Identity()


def _shift(config: ModelConfig) -> list[nn.Module]:
    return [Shift()] if config.block == "fixup" else []


def _initialise(net: ResNet, generator: torch.Generator) -> None:
    fixup = net.config.block == "fixup"
    for layer in (*net.layers().values(), *net.projections().values()):
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        else:
            _initialise_kernel(layer.weight, "he" if fixup else net.config.init, generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for module in net.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset) and not isinstance(module, (nn.Conv2d, nn.Linear)):
            reset()  # normalisers and scalars: to constants, without a draw
    if fixup:
        _, *branches = net.convolutions().values()
        with torch.no_grad():
            for first, second in zip(branches[::2], branches[1::2], strict=True):
                first.weight *= len(net.blocks) ** -0.5
                second.weight.zero_()
            net.linear.weight.zero_()
            net.linear.bias.zero_()


def _initialise_kernel(weight: Tensor, init: str, generator: torch.Generator) -> None:
    if init == "xavier":
        nn.init.xavier_normal_(weight, generator=generator)
    elif init == "he":
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
    else:
        nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)
