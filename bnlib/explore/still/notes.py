"""Shapes, annotations and the legend on a picture."""

import math

import numpy as np

from bnlib.explore.still.ink import LINE, WORD, seen
from bnlib.explore.still.plane import Plane, Spec
from bnlib.explore.still.svg import INK, Layer, box, curve, known, length
from bnlib.explore.still.traces import each, markers

_ANCHOR = {"left": "start", "center": "middle", "right": "end"}


def shape(plane: Plane, spec: Spec) -> None:
    """A line or a rectangle."""
    refs, line = (spec.get("xref", "x"), spec.get("yref", "y")), spec.get("line", {})
    (x0, x1), (y0, y1) = ([plane.place(letter, ref, spec[letter + end]) for end in "01"] for letter, ref in zip("xy", refs, strict=True))
    kind = known("a shape", spec.get("type", "rect"), ["line", "rect"])
    drawn = curve([(x0, y0), (x1, y1)]) if kind == "line" else box(x0, y0, x1, y1)
    plane.canvas.path(
        Layer.ABOVE if spec.get("layer", "above") == "above" else Layer.BELOW,
        drawn,
        fill=spec.get("fillcolor", "none"),
        stroke=line.get("color", INK) if refs in plane.heated else seen(line.get("color", INK), LINE),
        width=line.get("width", 2),
        dash=line.get("dash", "solid"),
        opacity=spec.get("opacity", 1),
        clip=plane.panel(*refs) if all(ref != "paper" and " " not in ref for ref in refs) else None,
    )


def annotation(plane: Plane, note: Spec) -> None:
    """Words, and an arrow from them to a point."""
    if not note.get("visible", True):
        return
    arrow, font = note.get("showarrow", True), plane.font | note.get("font", {})
    known("an arrow that begins at a position in", {note.get("axref", "pixel"), note.get("ayref", "pixel")}, [{"pixel"}])
    at, anchor = [0.0, 0.0], ["", ""]
    for i, (letter, ends) in enumerate((("x", ("start", "middle", "end")), ("y", ("bottom", "middle", "top")))):
        ref, value, given = note.get(f"{letter}ref", letter), note[letter], str(note.get(f"{letter}anchor", "auto"))
        at[i] = plane.place(letter, ref, value, True) + note.get(f"{letter}shift", 0) * (1 if letter == "x" else -1)
        nearest = ends[0 if value < 1 / 3 else 2 if value > 2 / 3 else 1] if ref == "paper" and not arrow else "middle"
        anchor[i] = nearest if given == "auto" else _ANCHOR.get(given, given)
    x, y = at
    if arrow:
        x, y = x + note.get("ax", -10), y + note.get("ay", -30)
        angle = math.atan2(y - at[1], x - at[0])
        wings = [(at[0] + 7 * math.cos(angle + turn), at[1] + 7 * math.sin(angle + turn)) for turn in (0.4, -0.4)]
        tip = curve([wings[0], (at[0], at[1]), wings[1]]) if note.get("arrowhead", 1) else ""
        drawn = curve([(x, y), (at[0], at[1])]) + tip
        plane.canvas.path(Layer.NOTE, drawn, stroke=note.get("arrowcolor", INK), width=note.get("arrowwidth", 1))
    turn, on_heat = note.get("textangle", 0), (note.get("xref", "x"), note.get("yref", "y")) in plane.heated
    colour = font["color"] if on_heat or "bgcolor" in note else seen(font["color"], WORD)  # what lies on a heat map was chosen for it
    plane.canvas.text((x, y), note["text"], (anchor[0], anchor[1]), size=font["size"], colour=colour, turn=turn)


def legend(plane: Plane, traces: list[Spec]) -> None:
    """A line, a marker or a bar for each trace that has a name; plotly shows it unasked where there are two traces or more."""
    named = [trace for trace in traces if trace.get("showlegend", trace["type"] != "heatmap") and trace.get("name")]
    if not plane.layout.get("showlegend", len(traces) > 1) or not named:
        return
    spec, flat = plane.layout.get("legend", {}), plane.layout.get("legend", {}).get("orientation") == "h"
    size = spec.get("font", {}).get("size", plane.font["size"])
    widths = [48 + length(trace["name"], size) for trace in named]
    high = spec.get("y", 1)
    top = {"auto": 0 if high > 2 / 3 else 1 if high < 1 / 3 else 0.5, "top": 0, "middle": 0.5, "bottom": 1}[spec.get("yanchor", "auto")]
    left = {"left": 0, "center": 0.5, "right": 1}[spec.get("xanchor", "left")]
    x = plane.place("x", "paper", spec.get("x", 1.02)) - left * (sum(widths) if flat else max(widths))
    y = plane.place("y", "paper", high) + size * (0.75 - 1.5 * top * (1 if flat else len(named)))
    for trace, width in zip(named, widths, strict=True):
        swatch, line, mode = (
            curve([(x + 5, y), (x + 35, y)]),
            trace["line"],
            trace.get("mode", "lines") if trace["type"] == "scatter" else "",
        )
        if trace["type"] == "bar":
            plane.canvas.path(Layer.NOTE, swatch, stroke=trace["colour"], width=10)
        if "lines" in mode:
            plane.canvas.path(Layer.NOTE, swatch, stroke=trace["colour"], width=line.get("width", 2), dash=line.get("dash", "solid"))
        if "markers" in mode:
            one = {key: each(value, 1)[0] for key, value in trace["marker"].items()}
            markers(plane, trace | {"marker": one}, np.array([[x + 20, y]]), None, Layer.NOTE)
        plane.canvas.text((x + 42, y), trace["name"], ("start", "middle"), size=size)
        x, y = (x + width, y) if flat else (x, y + 1.5 * size)
