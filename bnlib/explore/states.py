"""All states of a figure as one compact document: the start state, and what differs from it at each stop.

A leaf of the document that varies is stored as a table of its distinct values with an index over only those controls that it
depends on. `book/_assets/explore.js` reads the format; it is

    shape    number of stops of each control
    base     the start state
    patches  [{path, by, index, values}]: at the stops k, the leaf at `path` is values[index[i]], where i numbers the stops
             k[by[0]], k[by[1]], ... in row-major order; no index means values[i]; a null value means the key is absent
"""

import base64
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

DIGITS = 5
"""Significant digits kept of each float."""


def plain(figure: go.Figure) -> dict[str, Any]:
    """The figure's `data` and `layout` as JSON types: typed arrays become lists, floats keep `DIGITS` digits, NaN is None."""
    document: dict[str, Any] = _plain(json.loads(figure.to_json()))
    return {"data": document["data"], "layout": document["layout"]}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if "bdata" in value:
            return _plain(_decoded(value))
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = float(f"{value:.{DIGITS}g}")
        return int(value) if value.is_integer() and abs(value) < 1e9 else value
    return value


def _decoded(typed: dict[str, Any]) -> list[Any]:
    array = np.frombuffer(base64.b64decode(typed["bdata"]), dtype=np.dtype(typed["dtype"]))
    if "shape" in typed:
        array = array.reshape([int(n) for n in str(typed["shape"]).split(",")])
    values: list[Any] = array.tolist()
    return values


def pack(documents: Sequence[dict[str, Any]], shape: Sequence[int], base: dict[str, Any]) -> dict[str, Any]:
    """Pack one document per state, in row-major order over the stops; `base` is the one of them that is shown first.

    Dictionaries, and lists of dictionaries of one length, are compared item by item; anything else is one leaf.
    """
    patches: list[dict[str, Any]] = []

    def visit(path: list[str | int], values: list[Any]) -> None:
        if all(isinstance(value, dict) for value in values):
            for key in dict.fromkeys(key for value in values for key in value):
                visit([*path, key], [value.get(key) for value in values])
        elif _alike(values):
            for i in range(len(values[0])):
                visit([*path, i], [value[i] for value in values])
        elif len(set(texts := [json.dumps(value) for value in values])) > 1:
            patches.append({"path": path} | _table(texts, shape))

    visit([], list(documents))
    return {"shape": list(shape), "base": base, "patches": patches}


def _alike(values: list[Any]) -> bool:
    """Whether all are lists of dictionaries, of one length."""
    return all(
        isinstance(value, list) and value and len(value) == len(values[0]) and all(isinstance(item, dict) for item in value)
        for value in values
    )


def _table(texts: list[str], shape: Sequence[int]) -> dict[str, Any]:
    """The distinct values, here as JSON, and which of them is where, over the controls that this depends on."""
    numbers = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    index = np.array([numbers[text] for text in texts]).reshape(shape)
    by = []
    for axis in range(index.ndim):
        first = index.take([0], axis)
        if (index == first).all():
            index = first
        else:
            by.append(axis)
    table = {"by": by, "values": [json.loads(text) for text in numbers]}
    return table if index.size == len(numbers) else table | {"index": index.ravel().tolist()}


def encode(packed: dict[str, Any]) -> str:
    """The packed states as base64 of a deflated block, which a browser of 2023 or later can inflate by itself.

    The block is the length of a JSON text (uint32, little endian), the text, and the float32 numbers of its long lists, the first
    byte of each number, then the second, and so on. In the text such a list is {"floats": [start, length]}; NaN stands for null.
    """
    numbers: list[float | None] = []

    def lift(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: lift(item) for key, item in value.items()}
        if isinstance(value, list) and len(value) >= 12 and all(item is None or _short(item) for item in value):
            numbers.extend(value)
            return {"floats": [len(numbers) - len(value), len(value)]}
        return [lift(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(lift(packed), separators=(",", ":")).encode()
    bits = np.array(numbers, dtype="<f4").view("<u4")
    bits = (bits + 32) & ~np.uint32(63)  # 17 bits of mantissa: 2^17 > 10^5, so that a number of five digits comes back as it was
    planes = bits.view(np.uint8).reshape(-1, 4).T.tobytes()
    return base64.b64encode(zlib.compress(len(text).to_bytes(4, "little") + text + planes, 9)).decode()


def _short(item: Any) -> bool:
    """Whether a float32 of 17 mantissa bits holds the number to its last digit."""
    return type(item) in (int, float) and (item == 0 or (1e-37 < abs(item) < 1e38 and float(f"{item:.{DIGITS}g}") == item))
