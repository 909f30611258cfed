"""Where things are on a picture: plotly's axes and paper in pixels from the top left."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bnlib.explore.still.svg import INK, Box, Canvas, Layer, curve, known, length
from bnlib.text import number_text

WIDTH = 720
"""Pixels across."""

Spec = dict[str, Any]


def under(defaults: Spec, own: Spec) -> Spec:
    """`own` over defaults, dictionary by dictionary."""
    merged = defaults | own
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            merged[key] = under(defaults[key], value)
    return merged


class Axis:
    """An axis on the picture: its range begins at `low` and ends at `high`, in pixels."""

    def __init__(self, spec: Spec, low: float, high: float) -> None:
        self.spec, self.low, self.high, self.range = spec, low, high, spec["range"]
        self.log = known("an axis of type", spec.get("type", "-"), ["-", "linear", "log", "category"]) == "log"
        self.categories: list[str] = []

    def numbers(self, values: Sequence[Any]) -> np.ndarray:
        """Values in the units of the range: logarithms on a log axis, texts numbered as they come, NaN where there is none."""
        if any(isinstance(value, str) for value in values):
            self.categories += [value for value in dict.fromkeys(values) if value not in self.categories]
            return np.array([self.categories.index(value) for value in values], dtype=float)
        numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
        return np.log10(numbers, out=np.full_like(numbers, np.nan), where=numbers > 0) if self.log else numbers

    def pixels(self, numbers: Any) -> Any:
        """Where numbers in the units of the range are on the picture."""
        start, end = self.range
        return self.low + (np.asarray(numbers) - start) / (end - start) * (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Where the ticks are, in pixels, and what they say."""
        start, end = sorted(self.range)
        if "tickvals" in self.spec:
            values, texts = self.numbers(self.spec["tickvals"]), self.spec.get("ticktext") or list(map(number_text, self.spec["tickvals"]))
        elif self.categories:
            values, texts = np.arange(len(self.categories)), self.categories
        else:
            most = max(2, abs(self.high - self.low) / (75 if self.low < self.high else 45))
            step = 1 if self.log else self.spec.get("dtick") or _step((end - start) / most)
            values = np.arange(math.ceil(start / step - 1e-9), end / step + 1e-9) * step
            form = self.spec.get("tickformat", "").replace("~", "")
            shown = [float(f"{10**v if self.log else v:.6g}") for v in values.tolist()]
            texts = [format(v, form) if form else number_text(v) for v in shown]
        return [(at, text) for v, at, text in zip(values, self.pixels(values), texts, strict=True) if start - 1e-9 <= v <= end + 1e-9]


class Plane:
    """The canvas with the layout's axes on it."""

    def __init__(self, layout: Spec, height: float, name: str) -> None:
        self.layout, margin = layout, layout["margin"]
        self.font = {"size": 12} | layout.get("font", {}) | {"color": INK}
        self.canvas = Canvas(WIDTH, height, name, self.font["size"])
        self.paper = {"x": (margin["l"], WIDTH - margin["r"]), "y": (height - margin["b"], margin["t"])}
        self.axes: dict[str, Axis] = {}
        self.curves: dict[Box, np.ndarray] = {}  # the last in each panel, for fill="tonexty"
        self.heated: set[tuple[str, str]] = set()  # the axes of heat maps

    def axis(self, name: str) -> Axis:
        if name not in self.axes:
            spec = self._spec(name)
            known("an axis anchored to", spec.get("anchor", "x"), [key.replace("axis", "") for key in self.layout if "axis" in key])
            start, end = self.paper[name[0]]
            low, high = (start + share * (end - start) for share in self._spec(spec.get("overlaying", name)).get("domain", (0, 1)))
            self.axes[name] = Axis(spec if "range" in spec else spec | {"range": self._spec(spec["matches"])["range"]}, low, high)
        return self.axes[name]

    def _spec(self, name: str) -> Spec:
        if (key := f"{name[0]}axis{name[1:]}") not in self.layout:
            raise ValueError(f"the static picture has no axis {name!r}")
        return dict(self.layout[key])

    def panel(self, x: str, y: str) -> Box:
        """The box that two axes span."""
        across, up = self.axis(x), self.axis(y)
        return (across.low, up.high, across.high, up.low)

    def place(self, letter: str, ref: str, value: Any, exponent: bool = False) -> float:
        """A position on the paper, an axis or its domain, in pixels. `exponent`: on log axes, notes give it and shapes do not."""
        if ref == "paper":
            start, end = self.paper[letter]
        else:
            axis = self.axis(ref.removesuffix(" domain"))
            start, end = axis.low, axis.high
            if not ref.endswith(" domain"):
                return float(axis.pixels(value if axis.log and exponent else axis.numbers([value])[0]))
        return float(start + value * (end - start))

    def frame(self, name: str) -> None:
        """Draw an axis's grid, ticks, labels and title."""
        axis, flat = self.axis(name), name[0] == "x"
        spec, title, size = axis.spec, axis.spec.get("title", {}), axis.spec.get("tickfont", {}).get("size", self.font["size"])
        other, far = self.axis(spec.get("anchor", "y" if flat else "x")), spec.get("side") in ("top", "right")
        edge, out = other.high if far else other.low, 1 if far != flat else -1
        ticks, tick, labels = axis.ticks(), spec.get("ticklen", 5) * bool(spec.get("ticks")), spec.get("showticklabels", True)

        def point(along: float, across: float) -> tuple[float, float]:
            return (along, across) if flat else (across, along)

        def lines(places: list[float], ends: tuple[float, float], opacity: float) -> None:
            drawn = "".join(curve([point(at, end) for end in ends]) for at in places)
            self.canvas.path(Layer.GRID, drawn, stroke=INK, opacity=opacity)

        if spec.get("showgrid", True):
            lines([at for at, _ in ticks], (other.low, other.high), 0.13)
        if spec.get("zeroline", True) and not axis.log and not axis.categories and min(axis.range) <= 0 <= max(axis.range):
            lines([axis.pixels(0)], (other.low, other.high), 0.35)
        if spec.get("showline"):
            self.canvas.path(Layer.GRID, curve([point(axis.low, edge), point(axis.high, edge)]), stroke=INK, opacity=0.5)
        if tick:
            lines([at for at, _ in ticks], (edge, edge + out * tick), 0.5)
        beyond, depth = edge + out * (tick + 3), 0.0
        if labels:
            anchor = ("middle", "bottom" if far else "top") if flat else ("start" if far else "end", "middle")
            for at, text in ticks:
                self.canvas.text(point(at, beyond), text, anchor, size=size, turn=spec.get("tickangle", 0))
            depth = 1.3 * size if flat else max((length(text, size) for _, text in ticks), default=0)
        if title.get("text"):
            large = title.get("font", {}).get("size", 1.2 * self.font["size"])
            at = beyond + out * (depth + title.get("standoff", 8) + 0.5 * large)
            self.canvas.text(point((axis.low + axis.high) / 2, at), title["text"], size=large, turn=0 if flat else -90)


def _step(least: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)
