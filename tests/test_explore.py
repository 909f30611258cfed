"""Controls, packed states and the two lives of a figure, in Python; tests/test_explore_browser.py has the page."""

import base64
import copy
import itertools
import json
import re
import struct
import zlib
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnlib.explore import explore
from bnlib.explore.controls import control
from bnlib.explore.states import encode, pack, plain
from bnlib.sources import Source
from bnlib.text import number_text

AXES = {"xaxis": {"range": [0, 3]}, "yaxis": {"range": [-2, 2]}}


def draw(depth: int, rate: float = 1.0) -> go.Figure:
    """A line that turns with the rate and is as long as the depth, and one that never changes."""
    figure = go.Figure(layout={**AXES, "title": {"text": f"<b>{depth}</b> layers & more"}, "height": 300, "template": "none"})
    figure.add_scatter(x=np.arange(depth), y=rate * np.arange(depth), name="line", line={"color": "#0072B2"})
    figure.add_scatter(x=[0, 1], y=[1, np.nan], mode="markers", name="fixed")
    return figure


def make(**changed: Any) -> Any:
    return explore(**{"draw": draw, "name": "lines", "alt": "a line", "depth": [2, 3, 5], "rate": [0.5, 1e-4], **changed})


# --- an independent reading of the format, as the page's script does it


def decoded(text: str) -> dict[str, Any]:
    block = zlib.decompress(base64.b64decode(text))
    (length,) = struct.unpack_from("<I", block)
    planes = block[4 + length :]
    count = len(planes) // 4
    numbers = [struct.unpack("<f", bytes(planes[p * count + i] for p in range(4)))[0] for i in range(count)]

    def lists(value: dict[str, Any]) -> Any:
        if "floats" not in value:
            return value
        start, size = value["floats"]
        return [None if number != number else float(f"{number:.5g}") for number in numbers[start : start + size]]

    packed: dict[str, Any] = json.loads(block[4 : 4 + length], object_hook=lists)
    return packed


def applied(packed: dict[str, Any], stops: tuple[int, ...]) -> dict[str, Any]:
    state: Any = copy.deepcopy(packed["base"])
    for patch in packed["patches"]:
        k = 0
        for axis in patch["by"]:
            k = k * packed["shape"][axis] + stops[axis]
        value = patch["values"][int(patch["index"][k]) if "index" in patch else k]
        owner = state
        for key in patch["path"][:-1]:
            owner = owner[key]
        if value is None:
            owner.pop(patch["path"][-1], None)
        else:
            owner[patch["path"][-1]] = value
    assert isinstance(state, dict)
    return state


NUMBERS = st.one_of(st.none(), st.integers(-(10**6), 10**6), st.floats(-1e9, 1e9).map(lambda v: float(f"{v:.5g}")))
LEAVES = st.one_of(
    st.booleans(), st.integers(), st.text(max_size=3), st.lists(NUMBERS, max_size=20), st.lists(st.text(max_size=2), max_size=3)
)


@st.composite
def packs(draw: Any) -> tuple[list[int], list[dict[str, Any]]]:
    """Documents over some controls: leaves that depend on some of the controls, come and go, and lists of equal and unequal length."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    states = list(itertools.product(*map(range, shape)))

    def leaf() -> list[Any]:
        by = draw(st.lists(st.sampled_from(range(len(shape))), unique=True))
        table: dict[Any, Any] = {}
        return [table.setdefault(tuple(stops[c] for c in by), draw(LEAVES)) for stops in states]

    columns = {name: leaf() for name in "abcd"}
    lengths = [draw(st.integers(0, 2)) for _ in states] if draw(st.booleans()) else [2] * len(states)
    gone = [draw(st.booleans()) for _ in states]
    documents = []
    for i in range(len(states)):
        document = {
            "a": columns["a"][i],
            "traces": [{"b": columns["b"][i], "n": n, "inner": {"c": columns["c"][i]}} for n in range(lengths[i])],
        }
        documents.append(document if gone[i] else document | {"d": columns["d"][i]})
    return shape, documents


@given(packs(), st.data())
def test_every_state_comes_back_from_the_pack(packed: tuple[list[int], list[dict[str, Any]]], data: Any) -> None:
    shape, documents = packed
    base = data.draw(st.sampled_from(documents))
    result = pack(documents, shape, base)
    shipped = decoded(encode(result))
    for stops, document in zip(itertools.product(*map(range, shape)), documents, strict=True):
        assert applied(result, stops) == document
        assert applied(shipped, stops) == document


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda v: float(f"{v:.5g}")), min_size=12))
def test_five_digits_survive_the_encoding(numbers: list[float]) -> None:
    assert decoded(encode({"long": numbers}))["long"] == numbers


def test_a_leaf_is_stored_once_a_stop_of_what_it_depends_on() -> None:
    documents = [{"fixed": 1, "first": [i], "second": j % 2, "both": 10 * i + j} for i in range(3) for j in range(4)]
    tables = {patch["path"][0]: patch for patch in pack(documents, [3, 4], documents[0])["patches"]}
    assert set(tables) == {"first", "second", "both"}
    assert tables["first"] == {"path": ["first"], "by": [0], "values": [[0], [1], [2]]}
    assert tables["second"] == {"path": ["second"], "by": [1], "values": [0, 1], "index": [0, 1, 0, 1]}
    assert len(tables["both"]["values"]) == 12


def test_many_states_of_pure_noise_stay_small() -> None:
    x = np.arange(100.0)
    rng = np.random.default_rng(0)
    curves = [
        [[float(f"{v:.5g}") for v in np.exp(-x * rate / m) + 0.1 * rng.random(100)] for _ in range(2)]
        for m in range(1, 65)
        for rate in range(9)
    ]
    documents = [{"data": [{"x": x.tolist(), "y": y} for y in pair]} for pair in curves]
    assert len(encode(pack(documents, [64, 9], documents[0]))) < 400_000


def test_plain_figure_has_lists_and_five_digits() -> None:
    figure = go.Figure(layout=AXES | {"template": "none"})
    figure.add_heatmap(z=np.array([[1 / 3, np.nan], [2e-9, 4.0]]), x=np.array([1, 2], dtype=np.int8))
    trace = plain(figure)["data"][0]
    assert trace["z"] == [[0.33333, None], [2e-9, 4]]
    assert trace["x"] == [1, 2]
    assert isinstance(trace["z"][1][1], int)


# --- controls


def test_controls_follow_from_their_stops() -> None:
    kinds = [
        control("c", stops, "c", {}).kind
        for stops in ([1, 2], np.logspace(-3, 0, 4), range(3), ["a", "b"], {"a": None, "b": [1]}, [False, True])
    ]
    assert kinds == ["slider", "slider", "slider", "menu", "menu", "toggle"]
    assert control("c", {"yes": 1, "no": 0}, "c", {"c": 0}).start == 1
    assert all(type(value) is float for value in control("c", np.logspace(-3, 0, 4), "c", {}).values)


def test_stops_that_are_close_are_told_apart() -> None:
    made = control("c", [0.123451, 0.123452], "c", {})
    assert made.texts == made.keys == ("0.123451", "0.123452")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (56, "56"),
        (100000, "100000"),
        (0.003, "0.003"),
        (1e-3, "10⁻³"),
        (0.01, "0.01"),
        (3e-5, "3×10⁻⁵"),
        (1e4, "10⁴"),
        (-0.5, "−0.5"),
        (0.0, "0"),
    ],
)
def test_numbers_are_shown_as_they_are_read_best(value: float, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depth": []}, "depth has no stops"),
        ({"depth": [2, 3, 2]}, "depth has the stop 2 twice"),
        ({"depth": [2, "a"]}, "all numbers, all texts"),
        ({"depth": [True, False]}, r"a toggle is \[False, True\]"),
        ({"depth": [2, float("nan")]}, "all numbers"),
        ({"start": {"depth": 4}}, "depth has no stop 4; it has 2, 3, 5"),
        ({"start": {"width": 4}}, "lines has no control 'width'; it has depth, rate"),
        ({"labels": {"width": "w"}}, "no control 'width'"),
        ({"name": "Lines!"}, "name is 'Lines!'"),
        ({"alt": " "}, "no text alternative"),
        ({"draw": lambda depth, rate: go.Figure(go.Scatter(y=[1]), layout={"yaxis": {"range": [0, 1]}})}, "draws xaxis without a range"),
        ({"draw": lambda depth, rate: go.Figure(go.Scatter(y=[1], yaxis="y2"), layout=AXES)}, "draws yaxis2 without a range"),
        (
            {"draw": lambda depth, rate: go.Figure(go.Scatter(y=[1]), layout=AXES | {"yaxis": {"range": [None, 1]}})},
            "yaxis without a range",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(**changed)
    assert "\n" not in str(caught.value)


def test_without_controls() -> None:
    with pytest.raises(ValueError, match="lines has no controls"):
        explore(draw, name="lines", alt="a line")


def test_an_axis_may_take_the_range_that_it_matches() -> None:
    layout = AXES | {"yaxis2": {"matches": "y"}}
    assert make(draw=lambda depth, rate: go.Figure(go.Scatter(y=[1], yaxis="y2"), layout=layout)).figure().data


# --- the two lives


def test_figure_at_any_stop_and_at_no_other() -> None:
    lines = make(start={"depth": 3})
    assert len(lines.figure().data[0].x) == 3
    assert len(lines.figure(depth=5, rate=1e-4).data[0].x) == 5
    assert lines.figure(rate=0.0001 * (1 + 1e-12)).data[0].y[1] == 1e-4
    with pytest.raises(ValueError, match="rate has no stop 2"):
        lines.figure(rate=2)
    with pytest.raises(ValueError, match="no control 'width'"):
        lines.figure(width=2)


def test_what_draw_raises_says_where() -> None:
    def broken(depth: int, rate: float) -> go.Figure:
        if depth == 5:
            raise KeyError("x")
        return draw(depth, rate)

    with pytest.raises(KeyError) as caught:
        _ = make(draw=broken).html
    assert caught.value.__notes__ == ["drawing lines at {'depth': 5, 'rate': 0.5}"]


def test_static_form_holds_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNLIB_DISPLAY", "static")
    lines = make(alt=lambda depth, rate: f"a line of {depth} points", labels={"rate": "rate α < 1"}, start={"depth": 3})
    bundle = lines._repr_mimebundle_()
    assert list(bundle) == ["text/html"]
    page = bundle["text/html"]
    assert lines.size == len(page.encode())
    packed = decoded(re.findall(r'class="bnx-states">([^<]*)<', page)[0])
    for stops, state in zip(itertools.product(range(3), range(2)), lines.states(), strict=True):
        document = applied(packed, stops)
        assert document == lines.document(**state)
        assert document["data"] == plain(draw(**state))["data"]
        assert document["alt"] == f"a line of {state['depth']} points"
        assert document["title"] == f"<b>{state['depth']}</b> layers &amp; more"
        assert "title" not in document["layout"]
    assert 'aria-label="a line of 3 points"' in page
    assert "rate α &lt; 1" in page
    assert 'min="0" max="2" step="1" value="1" aria-valuetext="3"' in page


def test_source_line() -> None:
    source = Source("cached", "3 seeds <a>", "bnlib sweep fig1 && x", [("run", "results/fig1/run.json")])
    page = make(source=source).html
    assert "<b>cached</b> <span>3 seeds &lt;a&gt;</span>" in page
    assert "bnlib sweep fig1 &amp;&amp; x" in page
    assert 'data-path="results/fig1/run.json">run</a>' in page
    assert "<summary>1 record</summary>" in page
    assert "rerun" not in make(source=Source("from the paper", "digitised", None, [])).html


def test_widget_draws_at_each_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BNLIB_DISPLAY", raising=False)
    lines = make(start={"rate": 1e-4}, labels={"rate": "rate α"})
    assert list(lines._repr_mimebundle_()) == ["application/vnd.jupyter.widget-view+json"]
    title, row, view, problem, _ = lines.widget.children
    depth, rate, reset = row.children
    assert (rate.description, rate.style.description_width, rate.value, rate.label) == ("rate α", "initial", 1e-4, "10⁻⁴")
    for move in range(60):
        depth.value, rate.value = [2, 3, 5][move % 3], [0.5, 1e-4][move % 2]
        np.testing.assert_array_equal(view.data[0].y, draw(depth.value, rate.value).data[0].y)
    assert title.value == "<b><b>5</b> layers &amp; more</b>"
    assert view.layout.title.text is None
    reset.click()
    assert (depth.value, rate.value, problem.value) == (2, 1e-4, "")


def test_widget_of_a_map_with_gaps_can_be_sent() -> None:
    def gaps(k: int) -> go.Figure:
        return go.Figure(go.Heatmap(z=np.array([[k, np.nan], [1.0, np.inf]])), layout=AXES)

    _, row, view, problem, _ = explore(gaps, name="gaps", alt="a map", k=[0, 2]).widget.children
    assert np.array(view.data[0].z).tolist() == [[0, None], [1, None]]
    row.children[0].value = 2
    assert np.array(view.data[0].z).tolist() == [[2, None], [1, None]]
    assert problem.value == ""


def test_widget_of_menus_and_toggles() -> None:
    def bars(norm: str, log: bool) -> go.Figure:
        return go.Figure(go.Bar(x=[1], y=[1 + log], name=norm), layout=AXES)

    made = explore(bars, name="bars", alt="bars", norm={"with": "batch", "without": "none"}, log=[False, True])
    _, row, view, _, _ = made.widget.children
    row.children[0].value, row.children[1].value = "none", True
    assert (view.data[0].name, view.data[0].y[0]) == ("none", 2)


def test_widget_shows_what_draw_raises_and_recovers() -> None:
    def fragile(k: int) -> go.Figure:
        if k == 2:
            raise RuntimeError("no\n<such> thing")
        figure = go.Figure(layout=AXES)
        for i in range(k + 1):
            figure.add_scatter(x=[0, 1], y=[i, k])
        return figure

    _, row, view, problem, _ = explore(fragile, name="fragile", alt="lines", k=[0, 1, 2, 3]).widget.children
    (slider, _reset) = row.children
    slider.value = 2
    assert "RuntimeError: no &lt;such&gt; thing" in problem.value
    for k in (3, 1, 0):
        slider.value = k
        assert problem.value == ""
        assert [list(trace.y) for trace in view.data] == [[i, k] for i in range(k + 1)]
