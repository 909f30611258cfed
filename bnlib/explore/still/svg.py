"""A small SVG canvas: paths, symbols and text in layers, in pixels from the top left."""

import base64
import html
import math
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from enum import IntEnum, auto
from typing import Any

import numpy as np
from jaxtyping import UInt8

INK = "#000001"
"""Stands in a figure for the page's text colour; `currentColor` in the SVG."""

_DASH = {"solid": (), "dot": (1, 1), "dash": (3, 3), "longdash": (5, 5), "dashdot": (3, 1, 1, 1), "longdashdot": (5, 2, 1, 2)}
_CROSS = [(0.4, 1.2), (0.4, 0.4), (1.2, 0.4), (1.2, -0.4), (0.4, -0.4), (0.4, -1.2)]
_CROSS += [(-x, -y) for x, y in _CROSS]
_SYMBOL: dict[str, list[list[tuple[float, float]]]] = {  # outlines for a radius of one; the circle has none
    "circle": [],
    "square": [[(-1, -1), (1, -1), (1, 1), (-1, 1)]],
    "diamond": [[(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)]],
    "triangle-up": [[(-1.15, 0.5), (1.15, 0.5), (0, -1)]],
    "triangle-down": [[(-1.15, -0.5), (1.15, -0.5), (0, 1)]],
    "cross": [_CROSS],
    "x": [[((x - y) * 0.7, (x + y) * 0.7) for x, y in _CROSS]],
    "star": [[(1.4 * r * math.sin(k * math.pi / 5), -1.4 * r * math.cos(k * math.pi / 5)) for k, r in enumerate([1, 0.382] * 5)]],
    "cross-thin": [[(0, -1.4), (0, 1.4)], [(-1.4, 0), (1.4, 0)]],
    "x-thin": [[(-1, -1), (1, 1)], [(-1, 1), (1, -1)]],
}
_RAISED = {"sup": str.maketrans("-−+0123456789n", "⁻⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ"), "sub": str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")}


class Layer(IntEnum):
    """What is drawn over what, the last on top."""

    BELOW = auto()
    GRID = auto()
    HEAT = auto()
    BAR = auto()
    FILL = auto()
    LINE = auto()
    MARK = auto()
    ABOVE = auto()
    NOTE = auto()


Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def known(what: str, value: Any, names: Iterable[Any]) -> Any:
    """`value`, where it is one of `names`; else ValueError."""
    if value not in (names := list(names)):
        raise ValueError(f"the static picture cannot draw {what} {value!r}; it knows {', '.join(map(str, names))}")
    return value


class Canvas:
    """An SVG element being drawn; `name` begins its ids, `size` is that of its text."""

    def __init__(self, width: float, height: float, name: str, size: float) -> None:
        self.width, self.height, self.name, self.size = width, height, name, size
        self.elements: list[tuple[Layer, str]] = []
        self.definitions: dict[str, str] = {}

    def render(self, alt: str) -> str:
        """The element, its parts layer by layer."""
        alt, drawn = html.escape(alt), "".join(element for _, element in sorted(self.elements, key=lambda item: item[0]))
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{alt}"'
        inner = f"<title>{alt}</title><defs>{''.join(self.definitions.values())}</defs>{drawn}"
        return f'{head} fill="currentColor" font-size="{self.size:g}">{inner}</svg>'.replace(INK, "currentColor")

    def path(
        self,
        layer: Layer,
        d: str,
        *,
        stroke: str = "none",
        width: float = 1,
        dash: str = "solid",
        fill: str = "none",
        opacity: float = 1,
        clip: Box | None = None,
    ) -> None:
        """A path; `dash` is one of plotly's, `clip` the box outside which it is cut."""
        attributes = {"fill": fill, "opacity": "" if opacity == 1 else f"{opacity:g}"}
        if width and stroke != "none":
            parts = _DASH[known("a line's dash", dash, _DASH)]
            attributes |= {"stroke": stroke, "stroke-width": number(width)}
            attributes["stroke-dasharray"] = " ".join(number(max(3, width) * part) for part in parts)
        if clip:
            left, top, right, bottom = clip
            key = f"{self.name}-{left:.0f}-{top:.0f}-{right:.0f}-{bottom:.0f}"
            attributes["clip-path"] = f"url(#{key})"
            self.definitions[key] = f'<clipPath id="{key}"><path d="{box(left, top, right, bottom)}"/></clipPath>'
        self.elements.append((layer, f'<path d="{d}"{_written(attributes)}/>'))

    def text(
        self,
        at: tuple[float, float],
        text: Any,
        anchor: tuple[str, str] = ("middle", "middle"),
        *,
        size: float | None = None,
        colour: str = INK,
        turn: float = 0,
    ) -> None:
        """Text in plotly's markup; `anchor` is (start, middle or end; top, middle or bottom), `turn` in degrees clockwise."""
        (x, y), size, lines = at, size or self.size, re.split(r"<br\s*/?>", str(text))
        first = {"top": 0.95, "middle": 0.35 - 0.65 * (len(lines) - 1), "bottom": -0.3 - 1.3 * (len(lines) - 1)}[anchor[1]]
        spans = [f'<tspan x="{number(x)}" y="{number(y + (first + 1.3 * i) * size)}">{_rich(line)}</tspan>' for i, line in enumerate(lines)]
        attributes = {
            "text-anchor": anchor[0] if anchor[0] != "start" else "",
            "font-size": number(size) if size != self.size else "",
            "fill": colour if colour != INK else "",
            "transform": f"rotate({turn:g} {number(x)} {number(y)})" if turn else "",
        }
        self.elements.append((Layer.NOTE, f"<text{_written(attributes)}>{''.join(spans)}</text>"))

    def image(self, layer: Layer, at: Box, pixels: UInt8[np.ndarray, "rows columns 4"]) -> None:
        """Red, green, blue and opacity of cells of one size that fill the box `at`, the first row on top."""
        left, top, right, bottom = at
        place = f'x="{number(left)}" y="{number(top)}" width="{number(right - left)}" height="{number(bottom - top)}"'
        link = f'href="data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"'
        self.elements.append((layer, f'<image {place} preserveAspectRatio="none" style="image-rendering: pixelated" {link}/>'))

    def gradient(self, stops: Sequence[tuple[float, str]]) -> str:
        """A paint that goes through the colours from the bottom to the top of what it fills."""
        key = f"{self.name}-colours-{len(self.definitions)}"
        inner = "".join(f'<stop offset="{at:g}" stop-color="{colour}"/>' for at, colour in stops)
        self.definitions[key] = f'<linearGradient id="{key}" x1="0" y1="1" x2="0" y2="0">{inner}</linearGradient>'
        return f"url(#{key})"


def number(value: float) -> str:
    """A tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")


def curve(points: Iterable[tuple[float, float]]) -> str:
    """The path through points, interrupted where one is missing."""
    drawn, pen = "", "M"
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            drawn, pen = f"{drawn}{pen}{number(x)},{number(y)}", "L"
        else:
            pen = "M"
    return drawn


def box(left: float, top: float, right: float, bottom: float) -> str:
    """The path around a box."""
    return f"M{number(left)},{number(top)}H{number(right)}V{number(bottom)}H{number(left)}Z"


def symbol(name: str, size: float, x: float, y: float) -> str:
    """The path of a marker `size` pixels across."""
    r, outline = size / 2, _SYMBOL[known("a marker", name, _SYMBOL)]
    if not outline:
        return f"M{number(x - r)},{number(y)}a{r:g},{r:g} 0 1,0 {2 * r:g},0a{r:g},{r:g} 0 1,0 {-2 * r:g},0Z"
    return "".join(curve((x + r * dx, y + r * dy) for dx, dy in part) + "Z" for part in outline)


def png(pixels: UInt8[np.ndarray, "rows columns 4"]) -> bytes:
    """A PNG file; rows are stored as differences from the row above, so that equal rows cost nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows, columns, _ = pixels.shape
    changes = np.diff(pixels, axis=0, prepend=np.zeros_like(pixels[:1]))
    content = zlib.compress(b"".join(b"\2" + row.tobytes() for row in changes), 9)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def length(text: Any, size: float) -> float:
    """About how wide a text is."""
    return 0.56 * size * len(re.sub("<[^>]*>", "", str(text)))


def rgb(colour: str) -> np.ndarray:
    """The red, green and blue, from 0 to 255, of a colour written as #rrggbb or as rgb(red, green, blue)."""
    if re.fullmatch("#[0-9a-fA-F]{6}", colour):
        return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=float)
    known("a colour scale with", colour.partition("(")[0], ["rgb", "#rrggbb"])
    return np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]])


def _written(attributes: dict[str, str]) -> str:
    return "".join(f' {key}="{value}"' for key, value in attributes.items() if value)


def _rich(text: str) -> str:
    """Bold and slanted spans, raised and lowered digits; other tags of plotly's are dropped."""
    for tag, digits in _RAISED.items():
        text = re.sub(rf"<{tag}>(.*?)</{tag}>", lambda found, digits=digits: found[1].translate(digits), text)  # type: ignore[misc]
    parts = re.split(r"(</?(?:b|i)>)", re.sub(r"</?(?!b>|i>)[a-z]+[^>]*>", "", text))
    tags = {"<b>": '<tspan font-weight="bold">', "<i>": '<tspan font-style="italic">', "</b>": "</tspan>", "</i>": "</tspan>"}
    return "".join(tags.get(part) or html.escape(html.unescape(part), quote=False) for part in parts)
