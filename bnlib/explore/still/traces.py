"""Curves, markers, bars and heat maps on a picture."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.colors

from bnlib.explore.still.ink import WORD, seen
from bnlib.explore.still.plane import Axis, Plane, Spec, under
from bnlib.explore.still.svg import INK, Box, Layer, box, curve, known, length, rgb, symbol


def complete(data: list[Spec], styles: dict[str, list[Spec]], layout: Spec) -> list[Spec]:
    """The visible traces with their defaults, and with their colour under "colour"."""
    traces, cycle = [], layout.get("colorway", plotly.colors.DEFAULT_PLOTLY_COLORS)
    for number, trace in enumerate(data):
        kind = known("a trace of type", trace.get("type", "scatter"), DRAW)
        defaults = {"type": kind, "xaxis": "x", "yaxis": "y", "opacity": 1, "marker": {}, "line": {}}
        trace = under(under(defaults, (styles.get(kind) or [{}])[0]), trace)
        first = each(trace["marker"].get("color", cycle[number % len(cycle)]), 1)[0]
        trace["colour"] = trace["line"].get("color", first)
        if trace.get("visible", True) is True:
            traces.append(trace)
    bars = [trace for trace in traces if trace["type"] == "bar"]
    for bar in bars:
        panel = [other for other in bars if (other["xaxis"], other["yaxis"]) == (bar["xaxis"], bar["yaxis"])]
        grouped = known("bars in mode", layout.get("barmode", "group"), ["group", "overlay"]) == "group"
        bar["rank"] = (next(i for i, other in enumerate(panel) if other is bar), len(panel)) if grouped else (0, 1)
    return traces


def scatter(plane: Plane, trace: Spec) -> None:
    """A curve with its area, error bars, markers and words."""
    count = len(trace.get("y") or trace.get("x") or [])
    x, y, clip = _axes(plane, trace)
    mode, opacity, line = trace.get("mode", "lines+markers" if count < 20 else "lines"), trace["opacity"], trace["line"]
    known("stackgroup", trace.get("stackgroup", ""), [""])
    at = np.column_stack([axis.pixels(axis.numbers(trace.get(letter, range(count)))) for letter, axis in (("x", x), ("y", y))])
    shape = known("a line of shape", line.get("shape", "linear"), ["linear", "hv", "vh"])
    drawn = {"linear": at, "hv": _stairs(at), "vh": _stairs(at[::-1])[::-1]}[shape]
    if trace.get("connectgaps"):
        drawn = drawn[np.isfinite(drawn).all(1)]
    panel = plane.panel(trace["xaxis"], trace["yaxis"])
    if (fill := known("a fill", trace.get("fill", "none"), ["none", "toself", "tonexty", "tozeroy"])) != "none":
        foot = y.pixels(min(y.range) if y.log else 0)
        back = {
            "toself": at[:0],
            "tonexty": plane.curves.get(panel, at[:0])[::-1],
            "tozeroy": np.array([[at[-1, 0], foot], [at[0, 0], foot]]),
        }
        area = np.concatenate([drawn, back[fill]])
        colour, alpha = (trace["fillcolor"], opacity) if "fillcolor" in trace else (trace["colour"], opacity / 2)
        plane.canvas.path(Layer.FILL, curve(area[np.isfinite(area).all(1)]) + "Z", fill=colour, opacity=alpha, clip=clip)
    plane.curves[panel] = drawn
    errors(plane, trace, at)
    if "lines" in mode and line.get("width", 2):
        dash, width = line.get("dash", "solid"), line.get("width", 2)
        plane.canvas.path(Layer.LINE, curve(drawn), stroke=trace["colour"], width=width, dash=dash, opacity=opacity, clip=clip)
    if "markers" in mode:
        markers(plane, trace, at, clip)
    if "text" in mode:
        up, side = trace.get("textposition", "middle center").split()
        anchor = {"left": "end", "right": "start", "center": "middle"}[side], {"top": "bottom", "middle": "middle", "bottom": "top"}[up]
        shift = np.array([{"left": -6, "right": 6}.get(side, 0), {"top": -5, "bottom": 5}.get(up, 0)])
        font, texts = plane.font | trace.get("textfont", {}), each(trace.get("text", ""), count)
        for i in np.flatnonzero(np.isfinite(at).all(1)):
            plane.canvas.text(tuple(at[i] + shift), texts[i], anchor, size=font["size"], colour=seen(font["color"], WORD))


def markers(plane: Plane, trace: Spec, at: np.ndarray, clip: Box | None, layer: Layer = Layer.MARK) -> None:
    """A trace's markers at the points `at`; those that look alike are one path."""
    marker, rim, groups = trace["marker"], trace["marker"].get("line", {}), dict[tuple[str, float, str, float | None], str]()
    defaults = (("symbol", "circle"), ("size", 6), ("color", trace["colour"]))
    symbols, sizes, colours = (each(marker.get(key, default), len(at)) for key, default in defaults)
    widths = each(rim.get("width"), len(at))
    if not all(isinstance(colour, str) for colour in colours):
        raise ValueError("the static picture cannot draw markers coloured by number; give their colours")
    for look, (x, y) in zip(zip(symbols, sizes, colours, widths, strict=True), at, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            groups[look] = groups.get(look, "") + symbol(look[0].removesuffix("-open"), look[1], x, y)
    for (name, _, colour, width), drawn in groups.items():
        hollow, alpha = name.endswith("-open"), trace["opacity"] * marker.get("opacity", 1)
        stroke, width = colour if hollow else rim.get("color", colour), (1 if hollow else 0) if width is None else width
        plane.canvas.path(layer, drawn, fill="none" if hollow else colour, stroke=stroke, width=width, opacity=alpha, clip=clip)


def errors(plane: Plane, trace: Spec, at: np.ndarray) -> None:
    """A trace's error bars, given as arrays, about the points `at`."""
    x, y, clip = _axes(plane, trace)
    for column, (letter, axis) in enumerate((("x", x), ("y", y))):
        error = trace.get(f"error_{letter}", {})
        if not error.get("visible", "array" in error or "type" in error):
            continue
        known("error bars of type", error.get("type", "data"), ["data"])
        values, drawn, cap = axis.numbers(trace[letter]), "", np.zeros(2)
        cap[1 - column] = error.get("width", 4)
        values = 10**values if axis.log else values
        for sign, sizes in ((1, error["array"]), (-1, error.get("arrayminus", error["array"]))):
            tips = at.copy()
            tips[:, column] = axis.pixels(axis.numbers((values + sign * np.array(sizes, dtype=float)).tolist()))
            drawn += "".join(curve([point, tip]) + curve([tip - cap, tip + cap]) for point, tip in zip(at, tips, strict=True))
        plane.canvas.path(Layer.LINE, drawn, stroke=error.get("color", trace["colour"]), width=error.get("thickness", 2), clip=clip)


def bar(plane: Plane, trace: Spec) -> None:
    """Bars, beside those of the other traces in the same panel or over them."""
    x, y, clip = _axes(plane, trace)
    flat, marker, (rank, beside) = trace.get("orientation") == "h", trace["marker"], trace["rank"]
    (along, across), (up, rise) = (("y", y), ("x", x)) if flat else (("x", x), ("y", y))
    count = len(trace[up])
    places, tops = across.numbers(trace.get(along, range(count))), rise.pixels(rise.numbers(trace[up]))
    gaps = np.diff(np.unique(places))
    room = (gaps.min() if len(gaps) else 1.0) * (1 - plane.layout.get("bargap", 0.2)) / beside
    places = places + (rank - (beside - 1) / 2) * room
    half = np.array(each(trace.get("width", room), count)) / 2
    sides, foot = across.pixels([places - half, places + half]), rise.numbers(each(trace.get("base", 0), count))
    feet = rise.pixels(np.where(np.isfinite(foot), foot, min(rise.range)))
    rim, alpha, colours = (
        marker.get("line", {}),
        trace["opacity"] * marker.get("opacity", 1),
        each(marker.get("color", trace["colour"]), count),
    )
    for i in np.flatnonzero(np.isfinite(tops)):
        ends = (feet[i], sides[0, i], tops[i], sides[1, i]) if flat else (sides[0, i], tops[i], sides[1, i], feet[i])
        stroke, width = rim.get("color", INK), rim.get("width", 0)
        plane.canvas.path(Layer.BAR, box(*ends), fill=colours[i], stroke=stroke, width=width, opacity=alpha, clip=clip)
    errors(plane, trace, np.column_stack([tops, across.pixels(places)] if flat else [across.pixels(places), tops]))


def heatmap(plane: Plane, trace: Spec) -> None:
    """Cells in the colours of a scale, their words, and the scale."""
    x, y, _ = _axes(plane, trace)
    left, top, right, bottom = panel = plane.panel(trace["xaxis"], trace["yaxis"])
    z = np.array([[np.nan if value is None else value for value in row] for row in trace["z"]], dtype=float)
    rows, columns = (
        axis.pixels(_edges(axis.numbers(trace.get(key, range(n))), n)) for key, axis, n in zip("yx", (y, x), z.shape, strict=True)
    )
    low, high = trace.get("zmin", np.nanmin(z)), trace.get("zmax", np.nanmax(z))
    scale = trace.get("colorscale", "Plasma")
    stops = plotly.colors.get_colorscale(scale) if isinstance(scale, str) else scale
    stops = [(1 - at, colour) for at, colour in reversed(stops)] if trace.get("reversescale") else stops
    levels, shades = (z - low) / ((high - low) or 1), np.array([rgb(colour) for _, colour in stops])
    cells = np.zeros((*z.shape, 4))
    cells[..., :3] = np.stack([np.interp(np.nan_to_num(levels), [at for at, _ in stops], channel) for channel in shades.T], axis=-1)
    cells[..., 3] = 255 * trace["opacity"] * np.isfinite(z)
    outside = np.pad(cells, ((0, 1), (0, 1), (0, 0))).round().astype(np.uint8)  # one row and one column more, of nothing
    plane.canvas.image(Layer.HEAT, panel, outside[np.ix_(_cell_at(rows, top, bottom), _cell_at(columns, left, right))])
    if known("text on a heat map by", trace.get("texttemplate", ""), ["", "%{text}"]):
        for i, j in np.argwhere(np.isfinite(z)):
            contrast = "#ffffff" if np.dot(cells[i, j, :3], [0.299, 0.587, 0.114]) < 128 else "#222222"
            font = {"size": plane.font["size"], "color": contrast} | trace.get("textfont", {})
            centre = ((columns[j] + columns[j + 1]) / 2, (rows[i] + rows[i + 1]) / 2)
            plane.canvas.text(centre, trace["text"][i][j], size=font["size"], colour=font["color"])
    if trace.get("showscale", True):
        _colour_bar(plane, stops, (low, high), trace.get("colorbar", {}))


def _colour_bar(plane: Plane, stops: Sequence[tuple[float, str]], ends: tuple[float, float], bar: Spec) -> None:
    left, middle = plane.place("x", "paper", bar.get("x", 1.02)) + 10, plane.place("y", "paper", bar.get("y", 0.5))
    half = (plane.paper["y"][0] - plane.paper["y"][1]) * bar.get("len", 1) / 2 - 10
    right, title, size = left + bar.get("thickness", 30), bar.get("title", {}), bar.get("tickfont", {}).get("size", plane.font["size"])
    top, large = middle - half, title.get("font", {}).get("size", 1.2 * plane.font["size"])
    if title.get("text") and title.get("side", "top") == "top":
        plane.canvas.text((left, top), title["text"], ("start", "top"), size=large)
        top += 1.5 * large
    plane.canvas.path(Layer.HEAT, box(left, top, right, middle + half), fill=plane.canvas.gradient(stops))
    ticks = Axis(bar | {"range": ends}, middle + half, top).ticks()
    for at, text in ticks:
        plane.canvas.text((right + 4, at), text, ("start", "middle"), size=size)
    if title.get("side") == "right":
        away = max((length(text, size) for _, text in ticks), default=0) + large
        plane.canvas.text((right + away, middle), title.get("text", ""), size=large, turn=90)


DRAW: dict[str, Callable[[Plane, Spec], None]] = {"scatter": scatter, "bar": bar, "heatmap": heatmap}


def _axes(plane: Plane, trace: Spec) -> tuple[Axis, Axis, Box | None]:
    clip = plane.panel(trace["xaxis"], trace["yaxis"]) if trace.get("cliponaxis", True) else None
    return plane.axis(trace["xaxis"]), plane.axis(trace["yaxis"]), clip


def each(value: Any, count: int) -> list[Any]:
    """A list as it is, anything else `count` times."""
    return value if isinstance(value, list) else [value] * count


def _stairs(at: np.ndarray) -> np.ndarray:
    """Points joined by steps, first across and then up."""
    corners = np.column_stack([at[1:, 0], at[:-1, 1]])
    corners[np.isnan(at[1:]).any(1)] = np.nan
    return np.concatenate([np.stack([at[:-1], corners], axis=1).reshape(-1, 2), at[-1:]])


def _edges(at: np.ndarray, count: int) -> np.ndarray:
    """The edges of `count` cells given by their edges or by their centres."""
    if len(at) == count + 1:
        return at
    half = np.diff(at, prepend=2 * at[0] - at[1], append=2 * at[-1] - at[-2]) / 2 if count > 1 else np.array([0.5, 0.5])
    return np.append(at - half[:-1], at[-1] + half[-1])


def _cell_at(edges: np.ndarray, start: float, end: float) -> np.ndarray:
    """The number of the cell at each pixel from `start` to `end`; -1 where there is none."""
    centres = np.arange(start, end - 0.5) + 0.5
    inside = (np.minimum(edges[:-1], edges[1:]) <= centres[:, None]) & (centres[:, None] < np.maximum(edges[:-1], edges[1:]))
    return np.where(inside.any(1), inside.argmax(1), -1)
