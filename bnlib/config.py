"""What a run is: frozen, validated dataclasses, and the id that names a run after them.

A run's id hashes its study, the sections it has and only those fields that differ from their defaults. So a field can be
added without renaming an old run, provided that no default ever changes (`tests/test_config.py` pins them).
"""

import dataclasses
import hashlib
import json
import math
import types
import typing
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

Norm = Literal["batch", "none", "last-features", "last-logits", "layer", "group", "instance"]
Init = Literal["xavier", "he", "torch"]
Shortcut = Literal["projection", "pad"]
Block = Literal["residual", "plain", "fixup", "skipinit"]
Source = Literal["cifar10", "synthetic"]
Schedule = Literal["steps", "constant", "plateau"]
Precision = Literal["fp32", "tf32", "bf16"]
Directions = Literal["random", "images"]
Scale = Literal["standardised", "unit", "bytes"]
Engine = Literal["eager", "graph", "compiled"]
AnySection = TypeVar("AnySection", bound="Section")


class ConfigError(ValueError):
    """A setting that no run can have. The message names the field and the way out."""


def _help(text: str, default: Any) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Section:
    """A frozen group of settings: every field is checked against its type on construction."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for f in dataclasses.fields(self):
            _check(f"{type(self).__name__}.{f.name}", getattr(self, f.name), hints[f.name])

    @classmethod
    def from_dict(cls: type[AnySection], values: dict[str, Any]) -> AnySection:
        """Build the section from `values`; an unknown key raises ConfigError."""
        if not isinstance(values, dict):
            raise ConfigError(f"{cls.__name__} must be an object, not {values!r}")
        known = [f.name for f in dataclasses.fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(f"{cls.__name__} has no field {unknown[0]!r}; it has {', '.join(known)}")
        return cls(**values)

    def non_default(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if getattr(self, f.name) != f.default}


def _check(name: str, value: Any, hint: Any) -> None:
    if typing.get_origin(hint) is Literal:
        options = typing.get_args(hint)
        if not isinstance(value, str) or value not in options:
            raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(options)}")
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, float) or not math.isfinite(value):
            raise ConfigError(f"{name} is {value!r}; it must be a finite float")
    elif type(value) is not hint:  # bool is an int to isinstance, and 1 is not True here
        raise ConfigError(f"{name} is {value!r}; it must be of type {hint.__name__}")


def _at_least(section: Section, name: str, least: int) -> None:
    if getattr(section, name) < least:
        raise ConfigError(f"{type(section).__name__}.{name} is {getattr(section, name)}; it must be at least {least}")


@dataclass(frozen=True)
class ModelConfig(Section):
    """The CIFAR ResNet of He et al. (2016, Sec 4.2) and the ways it is varied here."""

    depth: int = _help("number of weight layers, 6n + 2", 110)
    norm: Norm = _help("normaliser after each convolution", "batch")
    init: Init = _help("initialisation of the convolutions", "xavier")
    shortcut: Shortcut = _help("shortcut where the width changes", "projection")
    block: Block = _help("residual block, or the recipe that replaces it", "residual")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 8 or (self.depth - 2) % 6:
            below = max(8, self.depth - (self.depth - 2) % 6)
            near = sorted({below, below + 6}, key=lambda d: abs(d - self.depth))
            raise ConfigError(f"ModelConfig.depth is {self.depth}; it must be 6n + 2 with n >= 1, such as {near[0]} or {near[1]}")
        if self.block in ("fixup", "skipinit") and self.norm != "none":
            raise ConfigError(f"ModelConfig.block {self.block!r} replaces normalisation; it needs norm 'none', not {self.norm!r}")


@dataclass(frozen=True)
class DataConfig(Section):
    """The images a run sees."""

    source: Source = _help("the real CIFAR-10, or the synthetic set made on the spot", "cifar10")
    train_size: int = _help("how many of the training images, from the first", 50_000)
    test_size: int = _help("how many of the test images, from the first", 10_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, "train_size", 1)
        _at_least(self, "test_size", 1)


@dataclass(frozen=True)
class TrainConfig(Section):
    """Stochastic gradient descent as in the paper (Sec 1.2, which refers to He et al. 2016, Sec 4.2)."""

    lr: float = _help("initial learning rate (He et al.; the paper's Fig 1)", 0.1)
    epochs: int = _help("passes over the training images (the paper, as remembered)", 165)
    steps: int = _help("updates to make instead, without a test; 0 for whole epochs", 0)
    batch: int = _help("images in a mini-batch, the last of an epoch being what is left (He et al.; the paper's Fig 6)", 128)
    momentum: float = _help("of SGD, not dampened (He et al.)", 0.9)
    weight_decay: float = _help("on every parameter (He et al.)", 1e-4)
    schedule: Schedule = _help("rate / 10 at 50 % and 75 % (the paper's Fig 1), never, or when the training loss stops falling", "steps")
    augment: bool = _help("random crops of images padded by 4, and mirror images (He et al.)", True)
    precision: Precision = _help("arithmetic of the network: fp32; tf32 in products, on a GPU; bf16 by autocast", "fp32")
    threads: int = _help("processor threads, which decide the order of summation", 1)
    engine: Engine = _help("on a GPU: operations launched one by one; a whole update as a CUDA graph; the same, compiled by block", "eager")
    clip: float = _help("length to which a longer gradient is shortened, weight decay apart; 0 for never", 0.0)
    limit: float = _help("loss at which a run is stopped, over its first loss or 1, the larger; 0 for none that is finite", 1e3)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("epochs", 1), ("steps", 0), ("batch", 1), ("threads", 1)):
            _at_least(self, name, least)
        if self.lr <= 0:
            raise ConfigError(f"TrainConfig.lr is {self.lr}; it must be above zero")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"TrainConfig.momentum is {self.momentum}; it must be at least 0 and below 1")
        for name in ("weight_decay", "clip", "limit"):
            _at_least(self, name, 0)


@dataclass(frozen=True)
class ProbeConfig(Section):
    """How a network is looked at."""

    batch: int = _help("images in the mini-batch", 128)
    full: bool = _help("keep histograms, matrices and per-layer quantiles, not only the summary", True)
    powerlaw: bool = _help("also fit a power law to the middle layer's gradient, which takes up to a minute", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, "batch", 2)


@dataclass(frozen=True)
class ProductConfig(Section):
    """A product of M independent Gaussian N x N matrices with entries of variance 1/N (paper, Sec 4)."""

    M: int = _help("number of factors", 1)
    N: int = _help("size of each factor", 1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, "M", 1)
        _at_least(self, "N", 1)


@dataclass(frozen=True)
class LinearConfig(Section):
    """The product as a deep linear network, x -> A_M ... A_1 x (paper, Sec 4)."""

    restandardise: bool = _help("centre and scale the activations after each factor, as BN does", False)
    batch: int = _help("samples sent through it, where a batch is", 256)
    steps: int = _help("steps of gradient descent on it, where it is trained", 1000)
    relu: bool = _help("a ReLU after each factor, which makes it a fully connected network", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, "batch", 2)
        _at_least(self, "steps", 1)


@dataclass(frozen=True)
class JacobianConfig(Section):
    """Which part of a network's Jacobian is looked at, and of what is counted as the network."""

    k: int = _help("number of directions in image space", 64)
    directions: Directions = _help("drawn at random, or the differences between images", "random")
    held: bool = _help("the mini-batch's BN statistics are constants, not differentiated", True)
    linear: bool = _help("without ReLU and normaliser: the product of its convolutions", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, "k", 1)


@dataclass(frozen=True)
class InputConfig(Section):
    """How the pixels are given to the network."""

    scale: Scale = _help("mean 0 and deviation 1 a channel; 0 to 1; 0 to 255", "standardised")


@dataclass(frozen=True)
class RunConfig:
    """One run of one study: the sections it has, and its seed."""

    study: str
    seed: int = 0
    model: ModelConfig | None = None
    data: DataConfig | None = None
    probe: ProbeConfig | None = None
    product: ProductConfig | None = None
    linear: LinearConfig | None = None
    train: TrainConfig | None = None
    jacobian: JacobianConfig | None = None
    inputs: InputConfig | None = None

    def to_dict(self) -> dict[str, Any]:
        """The full configuration, defaults included, as stored in a record."""
        sections = {name: dataclasses.asdict(section) for name, section in self.sections().items()}
        return {"study": self.study, "seed": self.seed, **sections}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """The inverse of `to_dict`. Raises ConfigError on an unknown section, key or value."""
        kinds = _section_types()
        if unknown := sorted(set(values) - set(kinds) - {"study", "seed"}):
            raise ConfigError(f"a run has no section {unknown[0]!r}; it has study, seed, {', '.join(kinds)}")
        if not isinstance(values.get("study"), str) or type(values.get("seed")) is not int:
            raise ConfigError("a run needs a study (text) and a seed (whole number)")
        sections: dict[str, Any] = {name: kinds[name].from_dict(values[name]) for name in kinds if name in values}
        return cls(study=values["study"], seed=values["seed"], **sections)

    def sections(self) -> dict[str, Section]:
        """The sections this run has, by name."""
        return {name: section for name in _section_types() if (section := getattr(self, name)) is not None}

    @property
    def run_id(self) -> str:
        """12 hex digits of the SHA-256 of the canonical JSON of study, seed and non-default settings."""
        named = {name: section.non_default() for name, section in self.sections().items()}
        text = json.dumps({"study": self.study, "seed": self.seed, **named}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _section_types() -> dict[str, type[Section]]:
    hints = typing.get_type_hints(RunConfig)
    return {name: typing.get_args(hint)[0] for name, hint in hints.items() if isinstance(hint, types.UnionType)}
