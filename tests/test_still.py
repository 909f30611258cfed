"""The static picture: where things are on it, and what it refuses. tests/test_explore_browser.py compares it with plotly's."""

import base64
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from bnlib.explore import explore
from bnlib.explore.still import still
from bnlib.explore.still.ink import WORD, seen

SVG = "{http://www.w3.org/2000/svg}"
LEFT, TOP, RIGHT, BOTTOM = 60, 20, 700, 320  # of the plotting area below


def document(*traces: Any, alt: str = "alt", **layout: Any) -> dict[str, Any]:
    axes = {"xaxis": {"range": [0, 10]}, "yaxis": {"range": [0, 4]}, "margin": {"l": 60, "r": 20, "t": 20, "b": 40}, "height": 360}
    figure = go.Figure(list(traces), layout=axes | {"template": "none"} | layout)
    return explore(lambda k: figure, name="pic", alt=alt, k=[0]).document()


def picture(*traces: Any, **layout: Any) -> ET.Element:
    return ET.fromstring(still(document(*traces, **layout), name="pic"))


def paths(root: ET.Element, **attributes: str) -> list[ET.Element]:
    return [path for path in root.iter(f"{SVG}path") if all(path.get(key.replace("_", "-")) == value for key, value in attributes.items())]


def points(path: ET.Element) -> list[list[float]]:
    return [[float(v) for v in point.split(",")] for point in re.findall(r"-?[\d.]+,-?[\d.]+", path.attrib["d"])]


def texts(root: ET.Element) -> dict[str, ET.Element]:
    return {"".join(text.itertext()): text for text in root.iter(f"{SVG}text")}


def unpacked(link: str) -> np.ndarray:
    """The pixels of a PNG of 8-bit red, green, blue and opacity whose rows are differences from the row above."""
    content = base64.b64decode(link.removeprefix("data:image/png;base64,"))
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    columns, rows, *kind = struct.unpack(">IIBBBBB", content[16:29])
    assert kind == [8, 6, 0, 0, 0]
    start = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[start - 4 : start])
    lines = np.frombuffer(zlib.decompress(content[start + 4 : start + 4 + length]), dtype=np.uint8).reshape(rows, 1 + 4 * columns)
    assert (lines[:, 0] == 2).all()
    return np.cumsum(lines[:, 1:].reshape(rows, columns, 4), axis=0, dtype=np.uint8)


def test_a_line_is_where_its_axes_say() -> None:
    x, y = np.linspace(0, 10, 7), np.linspace(4, 0, 7) ** 0.7
    (line,) = paths(picture(go.Scatter(x=x, y=y, mode="lines", line={"color": "#0072B2", "width": 3})), stroke="#0072B2")
    expected = np.column_stack([LEFT + x / 10 * (RIGHT - LEFT), BOTTOM - y / 4 * (BOTTOM - TOP)])
    np.testing.assert_allclose(points(line), expected, atol=0.051)
    assert line.get("stroke-width") == "3"


def test_a_logarithmic_axis_and_a_gap() -> None:
    trace = go.Scatter(x=[0, 5, 6, 10], y=[1, 10, None, 100], mode="lines", line_color="#0072B2")
    root = picture(trace, yaxis={"type": "log", "range": [0, 2]})
    (line,) = paths(root, stroke="#0072B2")
    assert points(line) == [[60, 320], [380, 170], [700, 20]]
    assert line.attrib["d"].count("M") == 2
    assert set(texts(root)) >= {"1", "10", "100"}


def test_steps_turn_where_plotly_turns() -> None:
    for shape, corner in (("hv", [380, 320]), ("vh", [60, 170])):
        trace = go.Scatter(x=[0, 5, 7, 8], y=[0, 2, None, 4], mode="lines", line={"shape": shape, "color": "#0072B2"})
        (line,) = paths(picture(trace), stroke="#0072B2")
        assert points(line)[:3] == [[60, 320], corner, [380, 170]]
        assert points(line)[-1] == [572, 20]
        assert line.attrib["d"].count("M") == 2


def test_bands_error_bars_and_markers() -> None:
    low = go.Scatter(x=[0, 10], y=[1, 1], mode="lines", line_width=0)
    high = go.Scatter(x=[0, 10], y=[3, 2], mode="lines", line_width=0, fill="tonexty", fillcolor="rgba(0,0,0,0.2)")
    dots = go.Scatter(
        x=[2, 4], y=[2, 2], mode="markers", error_y={"array": [1, 1], "arrayminus": [0, 2]}, marker={"color": "#D55E00", "symbol": "square"}
    )
    root = picture(low, high, dots)
    (band,) = paths(root, fill="rgba(0,0,0,0.2)")
    assert points(band) == [[60, 95], [700, 170], [700, 245], [60, 245]]
    (bars,) = paths(root, stroke="#D55E00")
    assert points(bars)[:2] == [[188.0, 170.0], [188.0, 95.0]]
    assert [316.0, 320.0] in points(bars)
    (squares,) = paths(root, fill="#D55E00")
    assert points(squares) == [[x + dx, 170 + dy] for x in (188, 316) for dx, dy in ((-3, -3), (3, -3), (3, 3), (-3, 3))]


def test_hollow_markers_and_every_symbol() -> None:
    names = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"]
    names = [*names, *(f"{name}-open" for name in (*names, "cross-thin", "x-thin"))]
    marker = {"symbol": names, "size": 8, "color": "#D55E00"}
    root = picture(go.Scatter(x=np.linspace(1, 9, len(names)), y=[2] * len(names), mode="markers", marker=marker))
    assert len(paths(root, fill="#D55E00")) == 8
    assert len(paths(root, fill="none", stroke="#D55E00", stroke_width="1")) == 10


def test_bars_stand_beside_each_other() -> None:
    root = picture(
        go.Bar(x=["a", "b"], y=[1, 4], marker_color="#0072B2"),
        go.Bar(x=["a", "b"], y=[2, 0], marker_color="#D55E00"),
        xaxis={"range": [-0.5, 1.5]},
    )
    first, second = (paths(root, fill=colour)[0].attrib["d"] for colour in ("#0072B2", "#D55E00"))
    assert first == "M92,245H220V320H92Z"  # 0.8 of a category for both: from -0.4 to 0
    assert second == "M220,170H348V320H220Z"
    assert set(texts(root)) >= {"a", "b"}
    flat = picture(go.Bar(y=[1, 2], x=[5, 10], orientation="h", width=1, marker_color="#0072B2"), barmode="overlay")
    assert [path.attrib["d"] for path in paths(flat, fill="#0072B2")] == ["M60,282.5H380V207.5H60Z", "M60,207.5H700V132.5H60Z"]


def test_a_heat_map_and_its_scale() -> None:
    z = [[0, 1], [None, 2]]
    root = picture(
        go.Heatmap(z=z, x=[2.5, 7.5], y=[1, 3], colorscale=[[0, "#000000"], [1, "rgb(255,255,255)"]], colorbar={"title": {"text": "size"}}),
        margin={"l": 60, "r": 120, "t": 20, "b": 40},
    )
    (image,) = root.iter(f"{SVG}image")
    assert [image.get(key) for key in ("x", "y", "width", "height")] == ["60", "20", "540", "300"]
    pixels = unpacked(image.attrib["href"])
    assert pixels.shape == (300, 540, 4)
    corners = pixels[[149, 149, 150, 150], [269, 270, 269, 270]].tolist()  # the four that meet in the middle
    assert corners == [[0, 0, 0, 0], [255, 255, 255, 255], [0, 0, 0, 255], [128, 128, 128, 255]]
    for rows, columns in ((slice(0, 150), slice(0, 270)), (slice(150, 300), slice(270, 540))):
        assert len(np.unique(pixels[rows, columns].reshape(-1, 4), axis=0)) == 1
    assert set(texts(root)) >= {"size", "0", "2"}
    assert [stop.get("offset") for stop in root.iter(f"{SVG}stop")] == ["0", "1"]


def test_panels_annotations_and_shapes() -> None:
    root = picture(
        go.Scatter(x=[0, 1], y=[1, 10], mode="lines", line_color="#0072B2", xaxis="x2", yaxis="y2"),
        xaxis={"range": [0, 1], "domain": [0, 0.4]},
        xaxis2={"range": [0, 1], "domain": [0.6, 1], "anchor": "y2"},
        yaxis2={"range": [0, 1], "type": "log", "anchor": "x2"},
        annotations=[
            {"x": 0.5, "y": 0.5, "xref": "x2", "yref": "y2", "text": "<b>half</b> way<br>up", "showarrow": False, "yshift": 10},
            {"x": 1, "y": 0, "xref": "paper", "yref": "paper", "text": "corner", "showarrow": False},
            {"x": 0, "y": 4, "text": "arrow", "ax": 30, "ay": 40, "font": {"color": "#D55E00"}},
        ],
        shapes=[
            {
                "type": "line",
                "xref": "x2",
                "yref": "y2",
                "x0": 0,
                "x1": 1,
                "y0": 10**0.5,
                "y1": 10**0.5,
                "line": {"dash": "dot", "width": 1},
            },
            {
                "type": "rect",
                "xref": "paper",
                "yref": "y domain",
                "x0": 0,
                "x1": 1,
                "y0": 0.5,
                "y1": 1,
                "fillcolor": "#eeeeee",
                "layer": "below",
                "line": {"width": 0},
            },
        ],
    )
    assert points(paths(root, stroke="#0072B2")[0]) == [[444, 320], [700, 20]]
    words = texts(root)
    assert [span.get("x") for span in words["half wayup"] if span.tag == f"{SVG}tspan"] == ["572", "572"]
    assert words["corner"].get("text-anchor") == "end"
    assert (words["arrow"].get("fill"), words["arrow"][0].get("x")) == (seen("#D55E00", WORD), "90")
    assert points(paths(root, stroke_dasharray="3 3")[0]) == [[444, 170], [700, 170]]
    assert paths(root, fill="#eeeeee")[0].attrib["d"] == "M60,170H700V20H60Z"


def test_the_legend_names_what_is_drawn() -> None:
    traces = [
        go.Scatter(x=[1, 2], y=[1, 2], name="curve", mode="lines+markers"),
        go.Bar(x=[1], y=[1], name="bar"),
        go.Scatter(y=[1], showlegend=False, name="none"),
    ]
    assert set(texts(picture(*traces))) >= {"curve", "bar"}
    assert not {"curve", "bar", "none"} & set(texts(picture(*traces, showlegend=False)))
    assert "none" not in texts(picture(*traces, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 0}))


def test_ticks_as_given_and_as_found() -> None:
    given = picture(
        xaxis={"range": [0, 10], "tickvals": [0, 5, 20], "ticktext": ["none", "5<sup>−2</sup>", "off"]},
        yaxis={"range": [0, 1], "tickformat": ".0%"},
    )
    assert set(texts(given)) == {"none", "5⁻²", "0%", "20%", "40%", "60%", "80%", "100%"}
    assert {"0", "2", "4"} < set(texts(picture(yaxis={"range": [0, 5], "dtick": 2})))
    assert set(texts(picture(xaxis={"range": [0, 10], "visible": False}, yaxis={"range": [0, 1], "showticklabels": False}))) == set()


def test_text_and_axes_are_in_the_colour_of_the_page_and_ids_are_its_own() -> None:
    trace = go.Scatter(x=[0, 1], y=[0, 1], line_color="#000001")
    svg = still(document(trace, alt='a <"line">'), name="pic")
    assert "#000001" not in svg
    assert '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 360" role="img" aria-label="a &lt;&quot;line&quot;&gt;"' in svg
    assert "<title>a &lt;&quot;line&quot;&gt;</title>" in svg
    assert re.findall(r'id="([^"]*)"', svg) == re.findall(r"url\(#([^)]*)\)", svg)[:1] == ["pic-60-20-700-320"]
    assert not set(re.findall(r'id="([^"]*)"', svg)) & set(re.findall(r'id="([^"]*)"', still(document(trace), name="other")))


def test_a_picture_of_two_curves_is_small() -> None:
    x = np.arange(100.0)
    assert len(still(document(*(go.Scatter(x=x, y=np.exp(-x / k), mode="lines") for k in (1, 9))), name="pic")) < 10_000


@pytest.mark.parametrize(
    ("trace", "layout", "message"),
    [
        (go.Violin(y=[1]), {}, "a trace of type 'violin'"),
        (go.Scatter(y=[1], stackgroup="a"), {}, "stackgroup"),
        (go.Scatter(y=[1, 2], fill="tonextx"), {}, "a fill 'tonextx'"),
        (go.Scatter(y=[1, 2], line={"shape": "spline"}), {}, "a line of shape 'spline'"),
        (go.Scatter(y=[1, 2], line={"dash": "5px"}), {}, "a line's dash '5px'"),
        (go.Scatter(y=[1], marker={"symbol": "hourglass"}), {}, "a marker 'hourglass'"),
        (go.Scatter(y=[1], mode="markers", marker={"color": [0.5]}), {}, "coloured by number"),
        (go.Scatter(x=[1], y=[1], error_y={"type": "percent", "value": 3}), {}, "error bars of type 'percent'"),
        (go.Bar(y=[1]), {"barmode": "stack"}, "bars in mode 'stack'"),
        (go.Heatmap(z=[[1]], texttemplate="%{z}"), {}, "text on a heat map"),
        (go.Heatmap(z=[[1, 2]], colorscale=[[0, "hsl(0,0,0)"], [1, "#ffffff"]]), {}, "a colour scale"),
        (go.Scatter(y=[1]), {"xaxis": {"range": [0, 1], "type": "date"}}, "an axis of type 'date'"),
        (go.Scatter(y=[1]), {"xaxis": {"range": [0, 1], "anchor": "free"}}, "an axis anchored to 'free'"),
        (go.Scatter(y=[1]), {"shapes": [{"type": "circle", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]}, "a shape 'circle'"),
        (go.Scatter(y=[1]), {"annotations": [{"x": 0, "y": 0, "axref": "x", "ax": 1, "text": "a"}]}, "an arrow that begins"),
        (go.Scatter(y=[1]), {"annotations": [{"x": 0, "y": 0, "xref": "x7", "text": "a"}]}, "no axis 'x7'"),
        (go.Scatter(y=[1]), {"images": [{"source": "a.png"}]}, "layout.images"),
    ],
)
def test_what_cannot_be_drawn_is_refused(trace: Any, layout: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        picture(trace, **layout)
