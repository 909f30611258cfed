"""The controls of a figure: sliders, menus and toggles over a few stops."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bnlib.text import number_text


@dataclass(frozen=True)
class Control:
    """A control: the value at each stop, the text shown there, the key that stands for it in an address, and the stop at the start."""

    name: str
    label: str
    kind: Literal["slider", "menu", "toggle"]
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    keys: tuple[str, ...]
    start: int = 0

    def find(self, value: Any) -> int:
        """The number of the stop at `value`; ValueError where there is none."""
        for i, stop in enumerate(self.values):
            if _same(stop, value):
                return i
        raise ValueError(f"{self.name} has no stop {value!r}; it has {', '.join(map(repr, self.values))}")


def control(name: str, stops: Iterable[Any] | Mapping[str, Any], label: str, start: Mapping[str, Any]) -> Control:
    """The control over `stops`, beginning at `start[name]` or at its first stop.

    Numbers make a slider, texts or a dictionary from text to value a menu, `[False, True]` a toggle.
    Raises ValueError where there is no stop, where two are alike, or where the start is none of them.
    """
    values = list(stops.values() if isinstance(stops, Mapping) else stops)
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not values:
        raise ValueError(f"{name} has no stops; give at least one")
    kind: Literal["slider", "menu", "toggle"]
    if isinstance(stops, Mapping):
        kind, texts = "menu", [str(text) for text in stops]
        keys = texts
    elif all(isinstance(value, bool) for value in values):
        if values != [False, True]:
            raise ValueError(f"{name} is {values}; a toggle is [False, True]")
        kind, texts, keys = "toggle", ["off", "on"], ["false", "true"]
    elif all(isinstance(value, str) for value in values):
        kind, texts, keys = "menu", values, values
    elif all(_is_number(value) for value in values):
        kind, texts, keys = "slider", _distinct(values, number_text), _distinct(values, _key)
    else:
        raise ValueError(f"{name} is {values}; its stops must be all numbers, all texts, or a dictionary from text to value")
    for i, value in enumerate(values):
        if any(_same(value, other) for other in values[:i]):
            raise ValueError(f"{name} has the stop {value!r} twice")
    made = Control(name, label, kind, tuple(values), tuple(texts), tuple(keys))
    return Control(name, label, kind, made.values, made.texts, made.keys, made.find(start[name])) if name in start else made


def _key(value: float, digits: int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.{digits}g}"


def _distinct(values: Sequence[float], write: Callable[[float, int], str]) -> list[str]:
    """Each number written with as few digits as still tell all of them apart, at least four."""
    for digits in range(4, 17):
        texts = [write(value, digits) for value in values]
        if len(set(texts)) == len(values):
            break
    return texts


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _same(a: Any, b: Any) -> bool:
    if _is_number(a) and _is_number(b):
        return math.isclose(a, b, rel_tol=1e-9)
    return a is b or (type(a) is type(b) and bool(a == b))
