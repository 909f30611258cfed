"""The figures as a reader has them: a page opened from a file in Chromium, the network blocked."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from browser import Watched, served, wait_drawn, write_page
from playwright.sync_api import Page

from bnlib.explore import Explorer, explore
from bnlib.sources import Source

X = np.linspace(0, 10, 50)
INK = "#000001"
SOURCE = Source("cached", "3 seeds · 2026-11-23", "bnlib sweep fig1", [("3f9c1a0b77de", "results/fig1/3f9c1a0b77de.json")])


def curves(depth: int, rate: float) -> go.Figure:
    """Two curves on logarithmic axes, one theory, a label."""
    figure = go.Figure(layout={"height": 360, "template": "none", "showlegend": False, "font": {"size": 13}})
    figure.update_layout(
        title_text=f"At depth <b>{depth}</b> the loss falls {'fast' if rate > 0.05 else 'slowly'}, and a title as long as this one wraps"
    )
    for colour, k in (("#0072B2", 1), ("#D55E00", 3)):
        figure.add_scatter(x=X, y=np.exp(-X * rate * 10 / k) * depth, mode="lines", line={"color": colour})
    figure.add_scatter(x=X, y=np.full_like(X, depth), mode="lines", line={"color": INK, "width": 1})
    figure.add_annotation(x=5, y=np.log10(depth), text="theory", showarrow=False, font={"color": INK})
    figure.update_layout(
        xaxis={"range": [0, 10], "title": {"text": "epoch"}}, yaxis={"range": [-4, 3], "type": "log", "title": {"text": "loss"}}
    )
    return figure


def panels(norm: str, sharp: bool) -> go.Figure:
    """Two panels of bars, beside each other; the second has a trace more when it is sharp."""
    figure = go.Figure(layout={"height": 300, "template": "none", "title": {"text": f"{norm} < 2"}, "barmode": "overlay"})
    for number, width in enumerate((1.0, 2.0 if norm == "none" else 1.5)):
        place = {"xaxis": f"x{number + 1}", "yaxis": f"y{number + 1}"} if number else {}
        figure.add_bar(x=[-1, 0, 1], y=[0.2, width / 2, 0.3], marker_color="#0072B2", **place)
    if sharp:
        figure.add_scatter(x=[-1, 1], y=[0.5, None], mode="markers", xaxis="x2", yaxis="y2")
    figure.update_layout(
        xaxis={"range": [-2, 2], "domain": [0, 0.45]},
        xaxis2={"range": [-2, 2], "domain": [0.55, 1], "anchor": "y2"},
        yaxis={"range": [0, 1]},
        yaxis2={"range": [0, 1], "anchor": "x2"},
        annotations=[
            {"text": "words that would end beyond a phone", "x": 1.9, "y": 0.7, "showarrow": False, "xanchor": "left"},
            {"text": "wide", "x": 0.775, "y": 1, "xref": "paper", "yref": "paper", "showarrow": False, "yanchor": "bottom"},
        ],
    )
    return figure


CURVES = explore(
    curves,
    name="curves",
    alt=lambda depth, rate: f"loss at depth {depth} and rate {rate:g}",
    start={"depth": 56},
    labels={"rate": "learning rate α"},
    source=SOURCE,
    depth=[8, 20, 56, 110],
    rate=[1e-3, 0.03, 0.1],
)
PANELS = explore(panels, name="panels", alt="two histograms", norm={"with BN": "batch", "without": "none"}, sharp=[False, True])
FIGURES = (CURVES, PANELS)

Open = Callable[..., Watched]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page as the book has it: prose, sections, a folded code cell, figures."""
    code = f'<div class="cell"><details><summary>code</summary><div class="cell_input">explore(…)</div></details>{CURVES.html}</div>'
    prose = '<h2 id="section">A section</h2>' + "<p>Prose before the next figure.</p>" * 30
    return write_page(tmp_path_factory.mktemp("page"), code, prose, PANELS.html)


def drawn(page: Page, name: str) -> dict[str, Any]:
    """What plotly has been given, and what stands around it."""
    wait_drawn(page, name)
    state: dict[str, Any] = page.evaluate(
        """(name) => { const block = document.getElementById(name), plot = block.querySelector(".bnx-plot");
          return { data: plot.data, layout: plot.layout, alt: plot.ariaLabel, title: block.querySelector(".bnx-title").innerHTML }; }""",
        name,
    )
    return state


def move(page: Page, figure: Explorer, stops: tuple[int, ...]) -> None:
    """Move every control to its stop, as a hand would, one after the other."""
    for control, stop in zip(figure.controls, stops, strict=True):
        field = page.locator(f"#{figure.name}-{control.name}")
        if control.kind == "menu":
            field.select_option(index=stop)
        elif control.kind == "toggle":
            field.set_checked(stop == 1)
        else:
            field.fill(str(stop))
    wait_drawn(page, figure.name, ",".join(map(str, stops)))


def stops_of(page: Page, figure: Explorer) -> str | None:
    wait_drawn(page, figure.name)
    return page.locator(f"#{figure.name}").get_attribute("data-drawn")


def inked(value: Any, ink: str) -> Any:
    """The document with the text colour filled in."""
    return json.loads(json.dumps(value).replace(INK, ink))


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_stop_shows_what_python_draws(open_page: Open, url: str, figure: Explorer) -> None:
    watched = open_page(url)
    page = watched.page
    page.locator(f"#{figure.name}").scroll_into_view_if_needed()
    wait_drawn(page, figure.name)
    for stops in itertools.product(*(range(len(control.values)) for control in figure.controls)):
        move(page, figure, stops)
        state = {control.name: control.values[stop] for control, stop in zip(figure.controls, stops, strict=True)}
        expected, shown = figure.document(**state), drawn(page, figure.name)
        assert shown["data"] == inked(expected["data"], "rgba(0,0,0,1)")
        assert (shown["title"], shown["alt"]) == (expected["title"], expected["alt"])
        assert [shown["layout"][axis]["range"] for axis in ("xaxis", "yaxis")] == [
            expected["layout"][axis]["range"] for axis in ("xaxis", "yaxis")
        ]
        for control, stop in zip(figure.controls, stops, strict=True):
            if control.kind == "slider":
                field = page.locator(f"#{figure.name}-{control.name}")
                assert field.get_attribute("aria-valuetext") == control.texts[stop]
                assert page.locator(f"output[for={figure.name}-{control.name}]").inner_text() == control.texts[stop]
    watched.check()


def test_keys_move_and_a_quick_hand_ends_where_it_stops(open_page: Open, url: str) -> None:
    watched = open_page(url)
    page = watched.page
    page.locator("#curves-depth").focus()
    for key, stop in (("ArrowRight", 3), ("ArrowLeft", 2), ("Home", 0), ("PageUp", 1), ("PageDown", 0), ("End", 3)):
        page.keyboard.press(key)
        wait_drawn(page, "curves", f"{stop},0")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
    wait_drawn(page, "curves", "3,0")
    assert drawn(page, "curves")["data"] == inked(CURVES.document(depth=110)["data"], "rgba(0,0,0,1)")
    watched.check()


def test_the_address_carries_the_state_of_both_figures(open_page: Open, url: str) -> None:
    watched = open_page(url)
    page = watched.page
    move(page, CURVES, (0, 2))
    page.wait_for_url("**#curves:depth=8&rate=0.1")
    move(page, PANELS, (1, 1))
    page.wait_for_url("**#curves:depth=8&rate=0.1;panels:norm=without&sharp=true")

    second = open_page(page.url)
    assert (stops_of(second.page, CURVES), stops_of(second.page, PANELS)) == ("0,2", "1,1")
    assert second.page.locator("#curves-depth").input_value() == "0"
    second.page.locator("#curves .bnx-reset").click()
    wait_drawn(second.page, "curves", "2,0")
    second.page.wait_for_url("**#panels:norm=without&sharp=true")
    second.page.locator("#panels .bnx-reset").click()
    second.page.wait_for_url(url)
    second.page.evaluate("location.hash = 'curves:depth=20'")
    wait_drawn(second.page, "curves", "1,0")
    watched.check()
    second.check()


@pytest.mark.parametrize("width", [360, 1280])
def test_an_address_that_asks_for_what_is_not_there_shows_the_start_and_says_so(open_page: Open, url: str, width: int) -> None:
    watched = open_page(f"{url}#curves:depth=57", viewport={"width": width, "height": 740})
    page = watched.page
    wanted = {"": "depth 57, which", "curves:width=8": "width 8, which", "curves:depth=8&rate=%F0%9F": "learning rate α "}
    for asked in ("", "curves:width=8", "curves:depth=", "curves:depth=8&rate=%F0%9F", "curves:;panels:norm=<b>"):
        if asked:
            move(page, CURVES, (3, 0))
            assert page.locator(".bnx-notice:visible").count() == 0
            page.evaluate("(asked) => { location.hash = asked }", asked)
        wait_drawn(page, "curves", "2,0")
        wait_drawn(page, "panels", "0,0")
        notice = page.locator("#panels .bnx-notice" if "panels" in asked else "#curves .bnx-notice")
        notice.and_(page.locator(":visible")).wait_for()
        assert notice.inner_text().startswith(f"The address asks for {wanted.get(asked, '')}")
        assert page.locator(".bnx-notice:visible").count() == 1
    move(page, PANELS, (1, 0))
    assert page.locator(".bnx-notice:visible").count() == 0
    watched.check()


def test_the_address_of_a_section_is_left_alone(open_page: Open, url: str) -> None:
    watched = open_page(f"{url}#section")
    page = watched.page
    page.locator("#panels").scroll_into_view_if_needed()
    assert stops_of(page, PANELS) == "0,0"
    page.locator("#panels .bnx-reset").click()
    page.wait_for_timeout(400)
    assert page.url.endswith("#section")
    move(page, PANELS, (1, 0))
    page.evaluate("location.hash = 'section'")
    page.wait_for_timeout(100)
    assert stops_of(page, PANELS) == "1,0"
    watched.check()


def test_plotly_is_not_loaded_before_a_figure_comes_near(open_page: Open, tmp_path: Path) -> None:
    watched = open_page(write_page(tmp_path, '<div style="height: 3000px"></div>', PANELS.html))
    watched.page.wait_for_timeout(200)
    assert watched.page.evaluate("typeof Plotly") == "undefined"
    watched.page.locator("#panels").scroll_into_view_if_needed()
    wait_drawn(watched.page, "panels")
    watched.check()


def test_dark_and_light(open_page: Open, url: str) -> None:
    watched = open_page(url)
    page = watched.page
    wait_drawn(page, "curves")
    assert drawn(page, "curves")["data"][2]["line"]["color"] == "rgba(0,0,0,1)"
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function("document.querySelector('#curves .bnx-plot').layout.font.color === 'rgba(206,214,221,1)'")
    shown = drawn(page, "curves")
    assert shown["data"] == inked(CURVES.document()["data"], "rgba(206,214,221,1)")
    assert shown["layout"]["annotations"][0]["font"]["color"] == "rgba(206,214,221,1)"
    assert shown["layout"]["xaxis"]["gridcolor"] == "rgba(206,214,221,0.13)"
    assert page.evaluate("getComputedStyle(document.querySelector('#curves .xtick text')).fill") == "rgb(206, 214, 221)"
    assert page.evaluate("getComputedStyle(document.querySelector('#curves .bnx-still text')).fill") == "rgb(206, 214, 221)"
    watched.check()


def test_without_script_there_is_the_picture_and_no_dead_control(open_page: Open, url: str) -> None:
    page = open_page(url, java_script_enabled=False).page
    for figure in FIGURES:
        picture = page.locator(f"#{figure.name} .bnx-still svg")
        assert picture.is_visible()
        assert picture.get_attribute("aria-label") == figure.document()["alt"]
        assert picture.bounding_box()["width"] > 600
        assert not page.locator(f"#{figure.name} .bnx-controls").is_visible()
    assert not page.locator("button:visible").count()


def quarters(depth: int, rate: float) -> go.Figure:
    """A panel that hangs on the depth, one that hangs on the rate and is named, a heat map that stands, and a line that follows both."""
    figure = go.Figure(layout={"height": 400, "template": "none", "showlegend": False, "title": {"text": f"{depth} at {rate}"}})
    figure.add_scatter(x=[0, 1, 2], y=[0, depth / 2, depth], mode="lines+markers", name="grows")
    figure.add_bar(x=["a", "b"], y=[rate, 1], xaxis="x2", yaxis="y2", name="bars")
    figure.add_heatmap(z=[[1, 2], [3, 4]], xaxis="x3", yaxis="y3", showscale=False, name="heat")
    figure.add_shape(type="line", x0=rate, x1=rate, y0=0, y1=1, xref="x3", yref="y3 domain")
    figure.add_shape(type="line", x0=0, x1=1, y0=depth / 4, y1=depth / 4, xref="x3 domain", yref="y3")
    figure.add_annotation(text="stands", x=0.5, y=1, xref="paper", yref="paper", showarrow=False)
    for i, (left, right) in enumerate(((0, 0.25), (0.375, 0.625), (0.75, 1)), start=1):
        figure.layout[f"xaxis{i}"] = {"domain": [left, right], "range": [-0.5, 2], "anchor": f"y{i}"}
        figure.layout[f"yaxis{i}"] = {"range": [-0.5, 4], "anchor": f"x{i}"}
    return figure


def test_a_move_draws_what_it_changes_and_no_more(open_page: Open, tmp_path: Path) -> None:
    moving = explore(quarters, name="quarters", alt="three panels", depth=[1, 2, 4], rate=[0.5, 1.0])
    watched = open_page(write_page(tmp_path, f'<div style="width: 720px">{moving.html}</div>'), viewport={"width": 1280, "height": 800})
    page = watched.page
    wait_drawn(page, "quarters")
    page.evaluate("""() => { window.redrawn = []; const react = Plotly.react;
      Plotly.react = (sheet, data, ...rest) => { redrawn.push(data.map((trace) => trace.name)); return react(sheet, data, ...rest); } }""")

    def traces() -> list[set[str]]:
        """Of each sheet drawn since the last question; those without traces of the figure's own are empty."""
        page.wait_for_timeout(100)
        return sorted(({name for name in names if name} for names in page.evaluate("redrawn.splice(0)")), key=len)

    field = page.locator
    field("#quarters-depth").fill("1")
    assert traces() == [{"grows"}]
    field("#quarters-rate").fill("1")
    assert traces() == [{"bars"}]
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert set().union(*traces()) == {"grows", "bars", "heat"}
    assert page.locator("#quarters .x2tick").all_text_contents() == ["a", "b"]
    assert page.locator("#quarters .x3tick").count() > 2
    assert page.locator("#quarters .shapelayer path").count() == 2
    assert page.locator("#quarters .bnx-word").count() == 1
    watched.check()


def test_a_state_seen_before_is_not_drawn_again(open_page: Open, tmp_path: Path) -> None:
    moving = explore(quarters, name="quarters", alt="three panels", depth=[1, 2, 4], rate=[0.5, 1.0])
    many = explore(lambda k: quarters(k, 1.0), name="many", alt="three panels", k=[*range(1, 14)])
    watched = open_page(write_page(tmp_path, moving.html, many.html), viewport={"width": 1280, "height": 800})
    page = watched.page
    for name in ("quarters", "many"):
        page.locator(f"#{name}").scroll_into_view_if_needed()
        wait_drawn(page, name)
    page.evaluate("() => { const react = Plotly.react; Plotly.react = (...all) => { redrawn++; return react(...all); }; }")

    def drawings(name: str, stops: str) -> int:
        """Sheets that plotly draws on the way over these stops of the figure's first control."""
        page.evaluate("window.redrawn = 0")
        for stop in stops:
            page.locator(f"#{name} input[type=range]").first.fill(stop)
            page.wait_for_function("([name, stop]) => document.getElementById(name).dataset.drawn[0] === stop", arg=[name, stop])
        made: int = page.evaluate("redrawn")
        return made

    page.locator("#quarters").scroll_into_view_if_needed()
    assert drawings("quarters", "12") == 2
    assert drawings("quarters", "1020") == 0
    assert page.locator("#quarters .scatterlayer .point").count() == 3
    assert drawn(page, "quarters")["data"][0]["y"] == [0, 0.5, 1]
    box = page.locator("#quarters .scatterlayer .point").last.bounding_box()
    assert box
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    page.locator("#quarters .hovertext", has_text="grows").wait_for()
    drawings("quarters", "1")
    page.mouse.move(0, 0)
    drawings("quarters", "0")
    assert page.locator("#quarters .hovertext").count() == 0
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function("document.querySelector('#quarters .bnx-plot').layout.font.color === 'rgba(206,214,221,1)'")
    assert drawings("quarters", "10") == 1
    page.locator("#many").scroll_into_view_if_needed()
    assert drawings("many", "1010") == 4
    watched.check()


def test_the_pointer_finds_the_numbers_of_every_panel(open_page: Open, tmp_path: Path) -> None:
    moving = explore(quarters, name="quarters", alt="three panels", depth=[1, 2, 4], rate=[0.5, 1.0])
    watched = open_page(write_page(tmp_path, f'<div style="width: 720px">{moving.html}</div>'), viewport={"width": 1280, "height": 800})
    page = watched.page
    wait_drawn(page, "quarters")
    for marks, told in ((".scatterlayer .point", "grows"), (".barlayer .point", "bars"), (".heatmaplayer image", "heat")):
        box = page.locator(f"#quarters {marks}").last.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.locator("#quarters .hovertext", has_text=told).wait_for()
    watched.check()


def test_words_stand_where_plotly_would_put_them(open_page: Open, tmp_path: Path) -> None:
    """In a panel, along it and on the page, at every anchor; a note that is more than words is still plotly's."""
    notes: list[dict[str, Any]] = [
        {"text": "left", "x": 2, "y": 1, "xanchor": "left", "xshift": 6, "yshift": 4, "font": {"color": "#0072B2", "size": 11}},
        {"text": "right", "x": 8, "y": 0.5, "xanchor": "right", "yanchor": "top"},
        {"text": "10<sup>3</sup>, the<br>limit λ<sub>max</sub>", "x": 5, "y": 2.2, "yanchor": "bottom"},
        {"text": "above", "x": 0.5, "y": 1, "xref": "paper", "yref": "paper", "yanchor": "bottom"},
        {"text": "corner", "x": 1, "y": 0, "xref": "paper", "yref": "paper"},
        {"text": "panel", "x": 0.9, "y": 0.9, "xref": "x domain", "yref": "y domain", "opacity": 0.5},
        {"text": "beyond", "x": 11, "y": 1},
    ]
    figure = go.Figure(layout={"height": 400, "template": "none", "showlegend": False, "font": {"size": 13}})
    figure.add_scatter(x=[0, 10], y=[1, 100])
    figure.update_layout(xaxis={"range": [0, 10], "domain": [0, 0.6]}, yaxis={"range": [-1, 3], "type": "log"})
    figure.update_layout(annotations=[note | {"showarrow": False} for note in notes] + [{"text": "arrow", "x": 4, "y": 0}])
    shown = explore(lambda k: figure, name="notes", alt="notes", k=[0])
    watched = open_page(write_page(tmp_path, f'<div style="width: 720px">{shown.html}</div>'))
    page = watched.page
    wait_drawn(page, "notes")
    script = """(selector) => Object.fromEntries([...document.querySelectorAll(selector)].map((words) => {
      const range = document.createRange(), corner = words.closest(".bnx-plot, .theirs").getBoundingClientRect();
      range.selectNodeContents(words);
      const { left, right, top, bottom } = (words.closest("svg") ? words : range).getBoundingClientRect();
      return [words.textContent.replaceAll("\u200b", ""), [(left + right) / 2 - corner.left, (top + bottom) / 2 - corner.top]];
    }))"""
    ours = page.evaluate(script, ".bnx-word")
    assert list(page.evaluate(script, ".bnx-plot .annotation-text")) == ["arrow"]
    page.evaluate("""() => { const plot = document.querySelector(".bnx-plot"), div = document.createElement("div");
      div.className = "theirs";
      document.body.append(div);
      return Plotly.newPlot(div, plot.data, plot.layout); }""")
    theirs = page.evaluate(script, ".theirs .annotation-text")
    assert theirs.keys() - ours.keys() == {"arrow"}
    assert len(ours) == len(notes) - 1
    for words, place in ours.items():
        np.testing.assert_allclose(place, theirs[words], atol=1.5, err_msg=words)
    watched.check()


def test_paper_shows_the_picture_of_the_start(open_page: Open, url: str) -> None:
    page = open_page(url).page
    wait_drawn(page, "curves")
    move(page, CURVES, (0, 2))
    assert not page.locator("#curves .bnx-still").is_visible()
    page.emulate_media(media="print")
    assert page.locator("#curves .bnx-still").is_visible()
    assert page.locator("#curves .bnx-print").inner_text() == (
        "At depth 56 the loss falls slowly, and a title as long as this one wraps (depth: 56, learning rate α: 10⁻³)"
    )
    for hidden in (".bnx-controls", ".bnx-title", ".bnx-plot", "button", "details"):
        assert not page.locator(f"#curves {hidden}:visible").count()


def test_a_phone(open_page: Open, url: str) -> None:
    watched = open_page(url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = watched.page
    for figure in FIGURES:
        page.locator(f"#{figure.name}").scroll_into_view_if_needed()
        wait_drawn(page, figure.name)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert (
        page.evaluate("Math.max(...[...document.querySelectorAll('.bnx :not(svg *)')].map((part) => part.getBoundingClientRect().right))")
        <= 360
    )
    low = "[...document.querySelectorAll('.bnx :is(button, summary, select, input[type=range], .bnx-toggle):not([hidden])')]"
    assert page.evaluate(f"Math.min(...{low}.map((part) => part.getBoundingClientRect().height))") >= 44
    layout = drawn(page, "panels")["layout"]
    assert layout["xaxis"]["domain"] == layout["xaxis2"]["domain"] == [0, 1]
    assert layout["yaxis2"]["domain"][1] < layout["yaxis"]["domain"][0]
    assert layout["annotations"][1]["x"] == pytest.approx(0.5)
    assert layout["annotations"][1]["y"] == pytest.approx(layout["yaxis2"]["domain"][1])
    words = page.locator(".bnx-word", has_text="words that would end").bounding_box()
    assert words["width"] > 100
    assert words["x"] + words["width"] <= 345
    page.set_viewport_size({"width": 800, "height": 740})
    page.wait_for_function("document.querySelector('#panels .bnx-plot').layout.xaxis2.domain[0] === 0.55")
    watched.check()


def test_a_laptop_shows_a_figure_and_its_controls_at_once(open_page: Open, url: str) -> None:
    page = open_page(url, viewport={"width": 1280, "height": 720}).page
    for figure in FIGURES:
        page.locator(f"#{figure.name}").scroll_into_view_if_needed()
        wait_drawn(page, figure.name)
        assert page.locator(f"#{figure.name}").bounding_box()["height"] < 600


def test_data_code_and_records(open_page: Open, url: str) -> None:
    watched = open_page(url)
    page = watched.page
    wait_drawn(page, "curves")
    move(page, CURVES, (1, 2))
    page.locator("#curves .bnx-save summary").click()
    with page.expect_download() as download:
        page.locator("#curves .bnx-save-json").click()
    assert download.value.suggested_filename == "curves_depth-20_rate-0.1.json"
    content = json.loads(Path(download.value.path()).read_text())
    assert content["state"] == {"depth": "20", "rate": "0.1"}
    assert content["traces"] == CURVES.document(depth=20, rate=0.1)["data"]
    assert content["source"] == "cached 3 seeds · 2026-11-23"
    page.locator("#curves .bnx-code").click()
    assert page.locator(".cell_input").is_visible()
    assert not page.locator("#panels .bnx-code").is_visible()
    link = page.locator("#curves .bnx-source a").get_attribute("href")
    assert link == url.replace("page.html", "results/fig1/3f9c1a0b77de.json")
    watched.check()


def test_without_plotly_the_picture_stays_and_a_line_says_why(open_page: Open, tmp_path: Path) -> None:
    url = write_page(tmp_path, PANELS.html)
    (tmp_path / "plotly.min.js").unlink()
    page = open_page(url).page
    page.locator("#panels .bnx-notice:visible").wait_for()
    assert page.locator("#panels .bnx-notice").inner_text() == "This figure stays still: plotly.min.js is missing."
    assert page.locator("#panels .bnx-still svg").is_visible()
    said = page.locator("#panels .bnx-said")
    page.locator("#panels select").select_option(index=1)
    page.wait_for_function("document.querySelector('#panels .bnx-said').textContent")
    assert said.inner_text().endswith(": This figure stays still: plotly.min.js is missing."), "not the finding of another state"
    assert page.locator("#panels .bnx-notice").is_visible(), "after a move, too"


def test_the_picture_agrees_with_plotly(open_page: Open, tmp_path: Path) -> None:
    """The same paths to within a pixel, at the picture's own width."""
    figure = go.Figure(layout={"height": 400, "template": "none", "showlegend": False, "barmode": "group", "bargap": 0.3})
    figure.update_layout(colorway=["#0072B2", "#D55E00", "#CC79A7"])
    figure.add_scatter(x=X, y=np.exp(-X) + 0.01, mode="lines")
    figure.add_scatter(x=X[::5], y=np.exp(-X[::5]) * 2 + 0.01, mode="lines", line={"shape": "hv"})
    figure.add_scatter(x=[1, 4], y=[1, 0.1], mode="markers", marker={"symbol": "diamond", "size": 10}, error_y={"array": [0.5, 0.05]})
    figure.add_bar(x=["a", "b", "c"], y=[1, 3, 2], xaxis="x2", yaxis="y2")
    figure.add_bar(x=["a", "b", "c"], y=[2, 1, -1], xaxis="x2", yaxis="y2")
    figure.add_shape(type="rect", x0=2, x1=5, y0=0.01, y1=0.1)
    figure.add_shape(type="line", x0=0, x1=1, y0=0.25, y1=0.25, xref="x2 domain", yref="y2 domain")
    figure.add_annotation(x=5, y=-1, text="here", showarrow=False, xanchor="left")
    figure.update_layout(
        xaxis={"range": [0, 10], "domain": [0, 0.45]}, xaxis2={"range": [-0.5, 2.5], "domain": [0.55, 1], "anchor": "y2"},
        yaxis={"range": [-3, 1], "type": "log"}, yaxis2={"range": [-2, 4], "anchor": "x2"},
    )  # fmt: skip
    watched = open_page(
        write_page(tmp_path, f'<div style="width: 720px">{explore(lambda k: figure, name="both", alt="both", k=[0]).html}</div>')
    )
    page = watched.page
    wait_drawn(page, "both")
    script = """(selector) => {
      const corner = document.querySelector("#both .bnx-stage").getBoundingClientRect();
      return [...document.querySelectorAll("#both " + selector)].map((path) => {
        const box = path.getBBox(), ends = [[box.x, box.y], [box.x + box.width, box.y + box.height]];
        const places = ends.map(([x, y]) => new DOMPoint(x, y).matrixTransform(path.getScreenCTM()));
        return places.flatMap(({ x, y }) => [x - corner.x, y - corner.y]);
      });
    }"""

    def boxes(selector: str, whole: bool) -> np.ndarray:
        """Around each path, or around all of them: left, top, right, bottom."""
        found = np.array(page.evaluate(script, selector))
        assert len(found), selector
        return np.r_[found[:, :2].min(0), found[:, 2:].max(0)] if whole else found[np.lexsort(found.round().T)]

    blue, orange, green = "#0072B2", "#D55E00", "#CC79A7"
    for ours, theirs, whole in (
        (f'path[stroke="{blue}"]', ".scatterlayer .trace:nth-child(1) .js-line", True),
        (f'path[stroke="{orange}"]', ".scatterlayer .trace:nth-child(2) .js-line", True),
        (f'path[stroke="{green}"]', ".scatterlayer .trace:nth-child(3) .yerror", True),
        (f'path[fill="{green}"]', ".scatterlayer .trace:nth-child(3) .point", True),
        ('path[fill^="#"][d*="V"]', ".barlayer .point path", False),
        ('path[stroke-width="2"][stroke="currentColor"]', ".shapelayer path", False),
        ('path[opacity="0.13"]', ".gridlayer path, #both .bnx-plot .zerolinelayer path", True),
    ):
        np.testing.assert_allclose(boxes(f".bnx-still {ours}", whole), boxes(f".bnx-plot {theirs}", whole), atol=1, err_msg=ours)
    watched.check()


def test_a_page_from_a_server_works_as_well(open_page: Open, tmp_path: Path) -> None:
    write_page(tmp_path, CURVES.html)
    with served(tmp_path) as home:
        watched = open_page(f"{home}page.html#curves:depth=8&rate=0.03", allow=home)
        assert stops_of(watched.page, CURVES) == "0,1"
        watched.page.goto("about:blank")
    watched.check()
