"""Colours that are seen on the page, light or dark: those of lines 3 to 1, those of words 4.5 to 1 (WCAG 2, 1.4.3 and 1.4.11)."""

import re
from typing import Any

import numpy as np

from bnlib.explore.still.svg import INK, rgb

LINE, WORD = 3.0, 4.5
FAINT = 0.6
"""A trace of less opacity than this is meant to be faint."""
THEMES = (("#222832", "#ffffff"), ("#ced6dd", "#121212"))
"""The text colour and the ground of the book's theme, light and dark."""


def contrast(one: np.ndarray, two: np.ndarray) -> float:
    """WCAG's contrast of two colours, given by red, green and blue from 0 to 255: from 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def seen(colour: Any, ratio: float, opacity: float = 1) -> Any:
    """The colour, mixed with as much of the page's text colour as it needs on both grounds. INK stays, and what is not #rrggbb."""
    if colour == INK or not re.fullmatch("#[0-9a-fA-F]{6}", str(colour)):
        return colour
    for share in range(100, 0, -5):
        contrasts = []
        for ink, ground in THEMES:
            mixed = (share * rgb(colour) + (100 - share) * rgb(ink)) / 100
            contrasts.append(contrast(opacity * mixed + (1 - opacity) * rgb(ground), rgb(ground)))
        if min(contrasts) >= ratio:
            return colour if share == 100 else f"color-mix(in srgb,{colour} {share}%,currentColor)"
    return "currentColor"


def fit(trace: dict[str, Any]) -> dict[str, Any]:
    """The trace with its colours seen, where it is not meant to be faint."""
    opacity = trace["opacity"]
    if opacity < FAINT:
        return trace
    fitted = trace | {"colour": seen(trace["colour"], LINE, opacity)}
    for name in ("line", "marker", "error_x", "error_y"):
        part = trace.get(name, {})
        share = opacity * part.get("opacity", 1)
        if part and share >= FAINT:
            fitted[name] = _fit(part, share)
            if "line" in part:
                fitted[name]["line"] = _fit(part["line"], share)
    return fitted


def _fit(part: dict[str, Any], opacity: float) -> dict[str, Any]:
    given = part.get("color")
    if isinstance(given, str):
        return part | {"color": seen(given, LINE, opacity)}
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return part | {"color": [seen(one, LINE, opacity) for one in given]}
    return dict(part)


def _luminance(colour: np.ndarray) -> float:
    part = colour / 255
    return float(np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
