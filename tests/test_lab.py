"""A chapter opened in JupyterLab: its cells run, its sliders recompute."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # which ipykernel brings
import pytest
from browser import Watched
from chapters import ROOT, explorers
from playwright.sync_api import Page

from bnlib.explore import Explorer


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab over a copy of two chapters, with no settings but its own."""
    (tmp_path / "book").mkdir()
    for name in ("setting", "learning-rates"):
        shutil.copy(ROOT / "book" / f"{name}.ipynb", tmp_path / "book")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "RUNTIME")} | {
        "IPYTHONDIR": str(tmp_path / "ipython")
    }
    options = [
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={tmp_path}",
        "--IdentityProvider.token=",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    env = {key: value for key, value in os.environ.items() if key != "BNLIB_DISPLAY"} | places
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([Path(sys.executable).with_name("jupyter-lab"), *options], env=env, stdout=log, stderr=log)
        try:
            yield wait_for(f"http://127.0.0.1:{port}/", server, tmp_path / "log")
        finally:
            server.terminate()
            server.wait(30)


def wait_for(url: str, server: subprocess.Popen, log: Path) -> str:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}api/status", timeout=5):
                return url
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def menu(page: Page, *path: str) -> None:
    for name in path:
        page.get_by_role("menuitem", name=name, exact=True).click()


def opened(lab: str, chapter: str, open_page: Callable[..., Watched]) -> Page:
    """A chapter, with a kernel that waits, and then all its cells on their way."""
    page = open_page(f"{lab}lab/workspaces/{chapter}/tree/book/{chapter}.ipynb", allow=lab, viewport={"width": 1280, "height": 900}).page
    page.get_by_text("(ipykernel) | Idle").wait_for(timeout=120_000)
    menu(page, "Run", "Run All Cells")
    page.locator(".jp-Notebook .js-plotly-plot").first.wait_for(timeout=180_000)
    return page


def expected(figure: Explorer, **state: float) -> list[float]:
    return [y for trace in figure.figure(**state).data for y in trace.y]


def wait_drawn(page: Page, heights: list[float]) -> None:
    """Wait until the first figure shows these heights."""
    page.wait_for_function(
        """ys => {
            const shown = document.querySelector('.js-plotly-plot').data.flatMap(t => [...t.y]);
            return shown.length === ys.length && shown.every((y, i) => Math.abs(y - ys[i]) < 1e-6);
        }""",
        arg=heights,
    )


def complaints(page: Page) -> list[str]:
    """What cells wrote to stderr, and their errors."""
    kinds = ("application/vnd.jupyter.stderr", "application/vnd.jupyter.error")
    return [text for kind in kinds for text in page.locator(f".jp-Notebook .jp-RenderedText[data-mime-type='{kind}']").all_inner_texts()]


def test_a_chapter_runs_and_its_sliders_recompute(lab: str, open_page: Callable[..., Watched]):
    page = opened(lab, "setting", open_page)
    figure = next(iter(explorers("book/setting").values()))
    mean = figure.controls[0]
    wait_drawn(page, expected(figure))
    slider = page.locator(".jp-Notebook .noUi-handle").first
    slider.focus()
    slider.press("ArrowRight")
    wait_drawn(page, expected(figure, mean=mean.values[mean.start + 1]))
    for move in range(20):  # in a second: those that the kernel has no time for are left out, the last never
        slider.press("ArrowLeft" if move % 2 == 0 else "ArrowRight", delay=50)
    slider.press("Home")
    wait_drawn(page, expected(figure, mean=mean.values[0]))
    assert complaints(page) == []


def test_two_chapters_are_live_at_once(lab: str, open_page: Callable[..., Watched]):
    pages = {chapter: opened(lab, chapter, open_page) for chapter in ("learning-rates", "setting")}
    channel, accuracy = explorers("book/setting")["channel"], explorers("book/learning-rates")["accuracy"]
    (menu, *_), (mean, *_) = accuracy.controls, channel.controls
    counts = [len(accuracy.figure(**{menu.name: value}).data) for value in menu.values[:2]]
    assert counts[0] != counts[1]
    for stop in (1, 0, 1):
        pages["learning-rates"].locator(".jp-Notebook select").first.select_option(index=stop)
        slider = pages["setting"].locator(".jp-Notebook .noUi-handle").first
        slider.focus()
        slider.press("End" if stop else "Home")
        wait_drawn(pages["setting"], expected(channel, **{mean.name: mean.values[-stop]}))
        shown = "count => document.querySelector('.js-plotly-plot').data.length === count"
        pages["learning-rates"].wait_for_function(shown, arg=counts[stop])
    assert [complaints(page) for page in pages.values()] == [[], []]


def test_a_kernel_that_is_restarted_or_dies_while_it_trains_leaves_no_mess(lab: str, open_page: Callable[..., Watched], tmp_path: Path):
    page = opened(lab, "learning-rates", open_page)

    def begin_to_train() -> None:
        page.get_by_role("button", name="Train", exact=True).wait_for(timeout=120_000)
        page.get_by_text("(ipykernel) | Idle").wait_for(timeout=120_000)
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_text(re.compile(r"synthetic images .*: update \d+ of ")).wait_for(timeout=60_000)

    begin_to_train()
    menu(page, "Kernel", "Restart Kernel and Run All Cells…")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.get_by_text(re.compile("update .* of ")).wait_for(state="detached", timeout=60_000)
    begin_to_train()
    for process in psutil.Process().children(recursive=True):
        if "ipykernel_launcher" in process.cmdline():
            process.kill()
    page.get_by_text("Kernel Restarting").wait_for(timeout=60_000)  # JupyterLab says that it died, and starts another
    page.get_by_role("button", name="Ok", exact=True).click()
    page.get_by_text("(ipykernel) | Idle").wait_for(timeout=120_000)
    assert complaints(page) == []
    assert {path.name for path in (tmp_path / "book").iterdir()} <= {"setting.ipynb", "learning-rates.ipynb", ".ipynb_checkpoints"}
