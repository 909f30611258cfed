"""What a reader may do with a figure beyond its controls, and how each page serves all readers: light and dark, phone and laptop."""

import base64
import csv
import html
import io
import itertools
import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from browser import Watched, served, wait_drawn, write_page
from chapters import PAGES, ROOT
from PIL import Image
from playwright.sync_api import Locator, Page
from test_explore_browser import CURVES, PANELS, move

from bnlib.explore import explore
from bnlib.explore.still.ink import contrast, seen
from bnlib.explore.still.svg import rgb

Open = Callable[..., Watched]


def warm(k: int) -> go.Figure:
    """A heat map given by edges and centres, with a mark and a word on it, beside curves in colours too light for white or for black."""
    figure = go.Figure(layout={"height": 300, "template": "none", "showlegend": False, "title": {"text": f'a "warm", <b>long</b> {k}'}})
    figure.add_heatmap(z=[[1, None], [k, 4]], x=[0, 1, 3], y=[5, 6], showscale=False, zmin=0, zmax=5)
    figure.add_scatter(x=[0.5], y=[5], mode="markers", marker={"color": "#e8e8e8"})
    pale = {"color": "#56B4E9", "width": 2}
    figure.add_scatter(y=[1, k], mode="lines", line=pale, name="pale, one", error_y={"array": [0.1, 0.2]}, xaxis="x2", yaxis="y2")
    figure.add_scatter(y=[1, 2], mode="lines", line=pale, opacity=0.3, xaxis="x2", yaxis="y2")
    figure.add_scatter(y=[2, 1], mode="lines", line={"color": "#003050"}, xaxis="x2", yaxis="y2")
    note = {"showarrow": False, "font": {"color": "#D55E00"}}
    figure.update_layout(
        xaxis={"range": [0, 3], "domain": [0, 0.45], "title": {"text": "here"}}, yaxis={"range": [4, 7]},
        xaxis2={"range": [0, 1], "domain": [0.55, 1], "anchor": "y2"}, yaxis2={"range": [0, 5], "anchor": "x2"},
        annotations=[
            {"x": 1, "y": 5, "text": "on heat", **note},
            {"x": 0.5, "y": 3, "text": "on the page", "xref": "x2", "yref": "y2", **note},
        ],
    )  # fmt: skip
    return figure


WARM = explore(warm, name="warm", alt="a heat map and curves", k=[1, 2, 3, 4])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(tmp_path_factory.mktemp("page"), CURVES.html, PANELS.html, WARM.html)


def saved(page: Page, name: str, kind: str) -> tuple[str, bytes]:
    """The name and the content of what the save menu of a figure gives."""
    wait_drawn(page, name)
    if not page.locator(f"#{name} .bnx-save[open]").count():
        page.locator(f"#{name} .bnx-save summary").click()
    with page.expect_download() as download:
        page.locator(f"#{name} .bnx-save-{kind}").click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


# --- a link


@pytest.mark.parametrize("granted", [True, False])
def test_a_link_to_the_state_shown_is_copied_or_else_shown(open_page: Open, url: str, granted: bool) -> None:
    watched = open_page(url, permissions=["clipboard-read", "clipboard-write"] if granted else [])
    page = watched.page
    if not granted:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')) }")
    move(page, PANELS, (1, 1))
    move(page, CURVES, (0, 2))
    page.locator("#curves .bnx-link").click()
    link = f"{url}#curves:depth=8&rate=0.1"
    if granted:
        page.locator("#curves .bnx-link", has_text="copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == link
        assert page.locator("#curves .bnx-said").text_content() == "Link copied"
    else:
        page.locator("#curves .bnx-notice:visible").wait_for()
        assert page.locator("#curves .bnx-notice").inner_text() == link
    second = open_page(link)
    wait_drawn(second.page, "curves", "0,2")
    wait_drawn(second.page, "panels", "0,0")
    assert not second.page.locator(".bnx-notice:visible").count()
    watched.check()
    second.check()


def test_a_link_to_the_start_holds_its_values(open_page: Open, url: str) -> None:
    page = open_page(url, permissions=["clipboard-read", "clipboard-write"]).page
    page.locator("#curves .bnx-link").click()
    page.locator("#curves .bnx-link", has_text="copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == f"{url}#curves:depth=56&rate=0.001"


def test_a_link_to_a_figure_that_is_gone_says_so(open_page: Open, url: str) -> None:
    watched = open_page(f"{url}#gone:depth=8;panels:norm=without&sharp=true")
    wait_drawn(watched.page, "panels", "1,1")
    wait_drawn(watched.page, "curves", "2,0")
    notice = watched.page.locator(".bnx-notice:visible")
    assert notice.inner_text() == "The address asks for the figure gone, which this page does not have."
    watched.check()


# --- numbers and pictures


def test_numbers_as_csv(open_page: Open, url: str) -> None:
    watched = open_page(url)
    move(watched.page, CURVES, (1, 2))
    name, content = saved(watched.page, "curves", "csv")
    assert name == "curves_depth-20_rate-0.1.csv"
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert list(rows[0]) == ["trace", "x_axis", "y_axis", "x", "y"]
    assert {(row["x_axis"], row["y_axis"]) for row in rows} == {("epoch", "loss")}
    for number, trace in enumerate(CURVES.document(depth=20, rate=0.1)["data"], 1):
        assert [(float(row["x"]), float(row["y"])) for row in rows if row["trace"] == str(number)] == [
            *zip(trace["x"], trace["y"], strict=True)
        ]
    name, content = saved(watched.page, "panels", "csv")
    assert name == "panels_norm-with-BN_sharp-false.csv"
    name, content = saved(watched.page, "warm", "csv")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [(row["x"], row["y"], row["z"]) for row in rows[:4]] == [("0.5", "5", "1"), ("2", "5", ""), ("0.5", "6", "1"), ("2", "6", "4")]
    assert [(row["name"], row["x"], row["y"], row["error_y"]) for row in rows[5:7]] == [
        ("pale, one", "0", "1", "0.1"),
        ("pale, one", "1", "1", "0.2"),
    ]
    watched.check()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_of_the_state_shown_are_on_white_and_say_what_they_show(open_page: Open, url: str, theme: str) -> None:
    watched = open_page(url)
    page = watched.page
    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    move(page, CURVES, (0, 2))
    name, content = saved(page, "curves", "png")
    assert name == "curves_depth-8_rate-0.1.png"
    pixels = page.evaluate(
        """async (data) => {
          const image = new Image(); image.src = `data:image/png;base64,${data}`; await image.decode();
          const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
          const context = canvas.getContext("2d"); context.drawImage(image, 0, 0);
          const all = context.getImageData(0, 0, image.width, image.height).data, seen = {};
          for (let i = 0; i < all.length; i += 4) { const key = all.slice(i, i + 4).join(); seen[key] = (seen[key] ?? 0) + 1; }
          return { width: image.width, corner: all.slice(0, 4).join(), seen };
        }""",
        base64.b64encode(content).decode(),
    )
    assert pixels["width"] == 1440
    assert pixels["corner"] == "255,255,255,255"
    assert pixels["seen"]["0,114,178,255"] > 200
    assert pixels["seen"]["213,94,0,255"] > 200
    name, content = saved(page, "curves", "svg")
    assert name == "curves_depth-8_rate-0.1.svg"
    words = " ".join(ElementTree.fromstring(content).itertext())
    assert "the loss falls fast" in words
    assert "depth: 8 · learning rate α: 0.1" in words
    assert "cached 3 seeds · 2026-11-23" in words
    watched.check()


# --- play


def test_play_sweeps_a_slider_and_a_hand_stops_it(open_page: Open, url: str) -> None:
    watched = open_page(url)
    page = watched.page
    button = page.locator("#curves .bnx-play").first
    assert page.locator(".bnx-play").count() == 3, "menus and toggles have none"
    assert button.get_attribute("aria-label") == "Play depth"
    move(page, CURVES, (0, 1))
    button.click()
    assert button.get_attribute("aria-label") == "Stop depth"
    for stop in (1, 2, 3):
        wait_drawn(page, "curves", f"{stop},1")
    page.wait_for_url("**#curves:depth=110&rate=0.03")
    assert button.get_attribute("data-playing") == "false"
    button.click()
    wait_drawn(page, "curves", "0,1")
    page.locator("#curves-rate").focus()
    page.keyboard.press("ArrowRight")
    assert button.get_attribute("data-playing") == "false"
    stopped = page.locator("#curves-depth").input_value()
    page.wait_for_timeout(1000)
    assert page.locator("#curves-depth").input_value() == stopped
    watched.check()


def test_a_link_to_the_last_stop_ends_play(open_page: Open, url: str) -> None:
    page = open_page(url).page
    button = page.locator("#curves .bnx-play").first
    move(page, CURVES, (0, 1))
    button.click()
    page.evaluate("location.hash = '#curves:depth=110&rate=0.03'")
    page.wait_for_function("document.querySelector('#curves .bnx-play').dataset.playing === 'false'")
    assert page.locator("#curves-depth").get_attribute("aria-valuetext") == "110"
    assert button.get_attribute("aria-label") == "Play depth"


def test_another_play_stops_the_first(open_page: Open, url: str) -> None:
    page = open_page(url).page
    first, second = page.locator("#curves .bnx-play").first, page.locator("#warm .bnx-play")
    first.click()
    second.click()
    assert (first.get_attribute("data-playing"), second.get_attribute("data-playing")) == ("false", "true")
    second.click()
    assert second.get_attribute("data-playing") == "false"


def test_who_wants_less_motion_has_no_play(open_page: Open, url: str) -> None:
    page = open_page(url).page
    page.locator("#curves .bnx-play").first.click()
    page.emulate_media(reduced_motion="reduce")
    assert not page.locator(".bnx-play:visible").count()
    page.wait_for_function("document.querySelector('#curves .bnx-play').dataset.playing === 'false'")


# --- ears, eyes, hands


def test_values_and_finding_are_told_once_the_hand_rests(open_page: Open, url: str) -> None:
    page = open_page(url).page
    move(page, CURVES, (0, 0))
    said = page.locator("#curves .bnx-said")
    assert said.get_attribute("role") == "status"
    page.wait_for_function("document.querySelector('#curves .bnx-said').textContent")
    title = page.locator("#curves .bnx-title").inner_text()
    assert said.text_content() == f"depth 8, learning rate α 10⁻³: {title}"


def test_the_focus_goes_through_a_figure_in_reading_order_and_is_seen(open_page: Open, url: str) -> None:
    page = open_page(url).page
    wait_drawn(page, "curves")
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    reached = []
    for _ in range(10):
        page.keyboard.press("Tab")
        element = page.evaluate(
            """() => { const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
              return [e.id || e.className || e.textContent, box.top, box.left, style.outlineStyle, style.outlineWidth]; }"""
        )
        reached.append(element[0])
        assert element[3] == "solid", element
        assert float(element[4].removesuffix("px")) >= 2
    assert reached[:8] == ["curves-depth", "bnx-play", "curves-rate", "bnx-play", "bnx-reset", "bnx-link", "save", "rerun"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_seen_on_the_page_and_left_alone_on_heat(open_page: Open, url: str, theme: str) -> None:
    watched = open_page(url)
    page = watched.page
    page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    page.locator("#warm").scroll_into_view_if_needed()
    wait_drawn(page, "warm")
    page.wait_for_timeout(100)
    shown = page.evaluate("(({ data, layout }) => ({ data, layout }))(document.querySelector('#warm .bnx-plot'))")
    ground = rgb("#14181e" if theme == "dark" else "#ffffff")
    ratios = [contrast(rgb(shown["data"][i]["line"]["color"]), ground) for i in (2, 4)]
    assert min(ratios) > 2.97
    assert shown["data"][1]["marker"]["color"] == "#e8e8e8"
    assert shown["data"][3]["line"]["color"] == "#56B4E9", "faint lines stay faint"
    on_heat, on_page = (note["font"]["color"] for note in shown["layout"]["annotations"])
    assert on_heat == "#D55E00"
    assert contrast(rgb(on_page), ground) > 4.45
    still = page.locator("#warm .bnx-still text", has_text="on the page")
    assert contrast(srgb(still.evaluate("text => getComputedStyle(text).fill")), ground) > 4.45
    watched.check()


def test_seen_mixes_only_what_it_must() -> None:
    assert seen("#0072B2", 3) == "#0072B2"
    assert seen("#000001", 4.5) == "#000001"
    assert seen("rgba(1,2,3,0.5)", 3) == "rgba(1,2,3,0.5)"
    assert re.fullmatch(r"color-mix\(in srgb,#56B4E9 \d\d%,currentColor\)", seen("#56B4E9", 3))
    assert contrast(np.zeros(3), np.full(3, 255.0)) == pytest.approx(21)
    assert contrast(np.full(3, 119.0), np.full(3, 255.0)) == pytest.approx(4.48, abs=0.005)  # #777 on white, as WCAG's tools give it


def srgb(colour: str) -> np.ndarray:
    """A computed colour, written as rgb(…) or, where colours were mixed, as color(srgb …)."""
    parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour.replace("color(srgb", ""))[:3]])
    return parts * 255 if colour.startswith("color(") else parts


# --- every page

LOOKS = list(itertools.product(("light", "dark"), (360, 1280)))


@pytest.fixture(params=PAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shown(open_page: Open, built: Path, name: str, theme: str, width: int, **context: Any) -> Watched:
    """A page with all its figures drawn, and the words of its formulas set; that of a search with what is found."""
    phone = {"has_touch": True, "is_mobile": True} if width < 600 else {}
    url = (built / f"{name}.html").as_uri() + "?q=Xavier" * (name == "search")
    watched = open_page(url, color_scheme=theme, viewport={"width": width, "height": 740}, **phone, **context)
    if name == "search":
        watched.page.get_by_text("Search finished, found").wait_for()
    for block in watched.page.locator(".bnx").all():
        block.scroll_into_view_if_needed()
        wait_drawn(watched.page, str(block.get_attribute("id")))
    return watched


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_axe_finds_no_serious_fault_and_nothing_scrolls_sideways(name: str, built: Path, open_page: Open) -> None:
    for theme, width in LOOKS:
        watched = shown(open_page, built, name, theme, width)
        page = watched.page
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.add_script_tag(content=AXE_SCRIPT)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'], preload: false })")["violations"]
        serious = [
            (fault["id"], [node["html"][:200] for node in fault["nodes"]]) for fault in found if fault["impact"] in ("serious", "critical")
        ]
        assert not serious, (theme, width)
        if width < 600:
            assert not small(page), "a finger needs 44 pixels"
            assert not beyond(page), "words of a figure are cut off"
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=ROOT / ".artefacts" / f"{Path(name).name}-{theme}-{width}.png", full_page=True)  # for a person to look at
        watched.check()
        page.context.close()


def small(page: Page) -> list[str]:
    """Controls of figures, of code, of the page's head and foot, and folds, that are less than 44 pixels high."""
    figures = ".bnx :is(button, summary, select, input[type=range], .bnx-toggle label, li a)"
    parts = f"{figures}, .article-header-buttons button, .bn-cite summary, .bn-ledger summary, details.hide > summary"
    parts += ", button.copybtn, button.toggle-button"
    return page.evaluate(
        f"""[...document.querySelectorAll("{parts}")].filter((e) => e.checkVisibility())
          .map((e) => [e.outerHTML.slice(0, 120), e.getBoundingClientRect().height]).filter(([, height]) => height < 43.9)"""
    )


def beyond(page: Page) -> list[str]:
    """Words of figures that reach out of their drawing, and figures that scroll in a box of their own."""
    return page.evaluate("""[...document.querySelectorAll(".bnx")].flatMap((block) => {
      const plot = block.querySelector(".bnx-plot"), room = plot.getBoundingClientRect(), box = block.closest(".output") ?? block;
      const words = [...plot.querySelectorAll("text, .bnx-word")].filter((e) => e.textContent && e.checkVisibility()).filter((e) => {
        const { left, right, top, bottom } = e.getBoundingClientRect();
        return left < room.left - 1 || right > room.right + 1 || top < room.top - 1 || bottom > room.bottom + 1;
      });
      return [...words.map((e) => `${block.id}: ${e.textContent}`), ...(box.scrollWidth > box.clientWidth ? [`${block.id} scrolls`] : [])];
    })""")


COLOURS = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const back = parts(getComputedStyle(e).backgroundColor);
    if (back.length === 3) return back;
  } return [255, 255, 255]; };
  const over = (colour, opacity, back) => {
    const [r, g, b, a = 1] = parts(colour), share = a * opacity;
    return [r, g, b].map((part, i) => part * share + back[i] * (1 - share));
  };
  const found = [];
  for (const block of document.querySelectorAll(".bnx")) {
    const back = ground(block), plot = block.querySelector(".bnx-plot");
    const heated = [...plot.querySelectorAll(".heatmaplayer image, .hm image")].map((image) => image.getBoundingClientRect());
    const onHeat = (e) => { const box = e.getBoundingClientRect(); return heated.some((heat) =>
      box.left < heat.right && box.right > heat.left && box.top < heat.bottom && box.bottom > heat.top); };
    const take = (selector, property, ratio) => { for (const e of plot.querySelectorAll(selector)) {
      const style = getComputedStyle(e), colour = style[property];
      let opacity = Number(style.opacity) * Number(style[`${property}Opacity`] ?? 1);
      for (let p = e.parentElement; p !== plot; p = p.parentElement) opacity *= Number(getComputedStyle(p).opacity);
      if (!e.checkVisibility() || colour === "none" || opacity < 0.6 || onHeat(e)) continue;
      if (property === "stroke" && style.strokeWidth === "0px") continue;
      const { width, height } = e.getBBox?.() ?? e.getBoundingClientRect();
      if (!width && !height) continue;
      found.push([block.id, selector, colour, ratio, over(colour, opacity, back), back, e.textContent.slice(0, 40),
        Math.max(width, height)]);
    } };
    take("text", "fill", 4.5);
    take(".bnx-word", "color", 4.5);
    take(".scatterlayer .js-line", "stroke", 3);
    take(".scatterlayer .point:not([style*='fill-opacity: 0'])", "fill", 3);
    take(".barlayer .point path", "fill", 3);
  }
  return found;
}"""


# Every figure with its first control at the end that is farther from its start.
FAR = """() => { for (const block of document.querySelectorAll(".bnx")) {
  const input = block.querySelector("[data-keys]"), last = JSON.parse(input.dataset.keys).length - 1;
  const far = Number(input.dataset.start) > last / 2 ? 0 : last;
  if (input.type === "checkbox") input.checked = far > 0;
  else input[input.type === "range" ? "value" : "selectedIndex"] = far;
  delete block.dataset.drawn;
  input.dispatchEvent(new Event("input"));
} }"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lines_and_words_of_figures_stand_out(name: str, theme: str, built: Path, open_page: Open) -> None:
    """All as they begin, on a laptop; and on a phone, with a control moved, where the pixels of the first are looked at."""
    page = shown(open_page, built, name, theme, 1280, device_scale_factor=2).page
    blocks = page.locator(".bnx").all()
    stand_out(page, blocks)
    page.set_viewport_size({"width": 360, "height": 740})
    page.evaluate(FAR)
    for block in blocks:
        block.scroll_into_view_if_needed()
        wait_drawn(page, str(block.get_attribute("id")))
    stand_out(page, blocks[:1], hidden=0.5)  # there, curves may lie on one another


def stand_out(page: Page, blocks: Sequence[Locator], hidden: float = 0) -> None:
    """Lines and words of the page's figures are strong by their style, and `blocks` look as it says, but for a share of hidden colours."""
    found = page.evaluate(COLOURS)
    assert len(found) >= 10 * page.locator(".bnx").count()
    weak = [
        (figure, what, colour, words, round(ratio, 2))
        for figure, what, colour, least, on, ground, words, _ in found
        if (ratio := contrast(np.array(on), np.array(ground))) < least - 0.05
    ]
    assert not weak
    for block in blocks:
        pixels = picture(block.locator(".bnx-plot"))
        own = [one[1:] for one in found if one[0] == block.get_attribute("id") and one[1] not in ("text", ".bnx-word")]
        plain = [one for one in own if one[0] != ".scatterlayer .js-line" or one[-1] > 40]  # a shorter line may lie below its markers
        drawn = {(tuple(on), tuple(ground)) for _, _, _, on, ground, *_ in plain}
        missing = [on for on, _ in drawn if near(pixels, on) < 20]
        assert len(missing) <= hidden * len(drawn), "what the style says is what is on the screen"
        assert all(near(pixels, ground) > 0.4 * len(pixels) for _, ground in drawn)


def picture(part: Locator) -> np.ndarray:
    """The pixels of a part of the page as they are on the screen."""
    part.scroll_into_view_if_needed()
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB")).reshape(-1, 3).astype(int)


def near(pixels: np.ndarray, colour: Sequence[float]) -> int:
    """How many pixels have a colour, to the rounding of a blend."""
    return int((np.abs(pixels - np.array(colour)).max(1) <= 3).sum())


@pytest.mark.parametrize("width", [360, 1280])
def test_without_scripts_there_are_formulas_and_pictures(name: str, width: int, built: Path, open_page: Open) -> None:
    page = open_page((built / f"{name}.html").as_uri(), java_script_enabled=False, viewport={"width": width, "height": 740}).page
    wide = page.context.new_cdp_session(page).send("Page.getLayoutMetrics")["cssContentSize"]["width"]
    assert wide == width, "the page scrolls sideways"
    formulas = page.locator("article .math.notranslate").count()
    assert page.locator("article noscript math").count() == formulas
    assert page.locator("article math:visible").count() == formulas
    assert not page.locator("article .math.notranslate:visible").count()
    assert page.locator(".bnx-still svg:visible").count() == page.locator(".bnx").count()
    assert not page.locator("article button:visible").count()


def test_paper_has_pictures_in_place_of_controls_and_is_black_on_white(name: str, built: Path, open_page: Open) -> None:
    page = shown(open_page, built, name, "dark", 1280).page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".bnx-still svg:visible").count() == page.locator(".bnx").count()
    assert not page.locator("article :is(button, input, select, summary):visible").count()
    inks = page.evaluate("[...document.querySelectorAll('article :is(p, h1, h2, li, td)')].map((e) => getComputedStyle(e).color)")
    assert min(contrast(srgb(ink), rgb("#ffffff")) for ink in set(inks)) > 4.5
    assert page.pdf().startswith(b"%PDF")


def test_scripts_come_once_late_and_only_where_they_are_needed(name: str, built: Path) -> None:
    head, figures = (built / f"{name}.html").read_text(), 'class="bnx"' in (built / f"{name}.html").read_text()
    for script in ("explore-looks.js", "explore-sheets.js", "explore.js", "explore-tools.js"):
        assert len(re.findall(f'<script defer="defer" src="[^"]*{script}', head)) == figures
    assert not re.search(r"<script[^>]*plotly\.min\.js", head)
    assert head.count("tex-svg-full.js") == ("math notranslate" in head)


def test_each_page_says_its_version_and_how_to_cite(name: str, built: Path, open_page: Open) -> None:
    page = open_page((built / f"{name}.html").as_uri()).page
    page.wait_for_load_state()
    page.locator(".bn-cite summary").click()
    entries = page.locator(".bn-cite pre").inner_text()
    assert "@software{bnlib," in entries
    assert "@inproceedings{bjorck2018," in entries
    assert page.locator(".bn-version").inner_text().split(",")[0].removeprefix("bnlib ") in entries


def test_a_citation_tells_what_it_cites(name: str, built: Path) -> None:
    listed = re.findall(r'<div class="citation" id="([^"]+)".*?<p>(.*?)</p>', (built / "book" / "references.html").read_text(), re.DOTALL)
    entries = {place: words(re.sub("<[^>]+>", "", entry)) for place, entry in listed}
    text = (built / f"{name}.html").read_text()
    cited = re.findall(r'<a class="reference internal" href="references\.html#([^"]+)" title="([^"]+)"', text)
    assert len(cited) == len(re.findall(r'"references\.html#', text)), "some have no title"
    notebook = ROOT / f"{name}.ipynb"
    assert bool(cited) == ("{cite" in notebook.read_text() if notebook.exists() else False)
    assert [(place, words(title)) for place, title in cited] == [(place, entries[place]) for place, _ in cited]


def words(text: str) -> str:
    """Letters and digits of a text, whatever style and typesetting put between them."""
    return "".join(re.findall(r"\w", html.unescape(text)))


@pytest.mark.parametrize("width", [360, 1280])
def test_a_citation_tells_the_keyboard_too(width: int, built: Path, open_page: Open) -> None:
    watched = open_page((built / "book" / "since-2018.html").as_uri(), viewport={"width": width, "height": 740})
    page = watched.page
    links = page.locator(".bd-article a[title][href*='references.html#']")
    shown = "link => getComputedStyle(link, '::after').content"
    assert links.nth(1).evaluate(shown) == "none"
    links.first.focus()
    while links.nth(1).evaluate("link => link !== document.activeElement"):
        page.keyboard.press("Tab")
    assert str(links.nth(1).get_attribute("title")) in links.nth(1).evaluate(shown).replace("\\", "")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = links.nth(1).bounding_box()
    assert box["y"] + box["height"] < 740 - 190, "what it tells covers it"
    page.screenshot(path=ROOT / ".artefacts" / f"citation-{width}.png")
    watched.check()


def test_the_change_log_tells_of_this_version(built: Path) -> None:
    assert f"<h2>{version('bnlib')}" in (built / "book" / "changes.html").read_text()


@pytest.mark.parametrize("server", [False, True], ids=["disk", "server"])
def test_the_book_is_searched_without_a_network(server: bool, built: Path, open_page: Open) -> None:
    with served(built) as home:
        watched = open_page(f"{home if server else f'{built.as_uri()}/'}{PAGES[0]}.html", allow=home)
        page = watched.page
        page.locator(".search-button__button:visible").first.click()
        page.keyboard.type("Xavier")
        page.keyboard.press("Enter")
        hits = page.locator("#search-results li")
        page.get_by_text("Search finished, found").wait_for()
        assert hits.count() > 3
        if server:  # a page from the disk may not read another, for an excerpt
            hits.locator("p", has_text="Xavier").first.wait_for()
        hits.locator("a", has_text="Gradients").first.click()
        page.wait_for_url("**/book/gradients.html*")
        page.goto("about:blank")
    watched.check()
