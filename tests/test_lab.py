"""A chapter opened in JupyterLab: its cells run, its sliders recompute, and what is stopped leaves no mess."""

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


class Lab:
    """A JupyterLab over a folder, at one address, with no settings but its own; it can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}/", folder / "log"
        self.env = {key: value for key, value in os.environ.items() if key != "BNLIB_DISPLAY"}
        self.env |= {key: str(folder / key) for key in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
        self.command = [
            Path(sys.executable).with_name("jupyter-lab"),
            "--no-browser",
            "--allow-root",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={folder}",
            "--IdentityProvider.token=",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]

    def start(self) -> None:
        with self.log.open("a") as log:
            self.server = subprocess.Popen(self.command, env=self.env, stdout=log, stderr=log)
        wait_for(self.url, self.server, self.log)

    def stop(self) -> None:
        self.server.terminate()
        self.server.wait(30)

    def kernels(self) -> list[psutil.Process]:
        return [process for process in psutil.Process(self.server.pid).children() if "ipykernel_launcher" in process.cmdline()]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A JupyterLab over a copy of two chapters."""
    (tmp_path / "book").mkdir()
    for name in ("setting", "learning-rates"):
        shutil.copy(ROOT / "book" / f"{name}.ipynb", tmp_path / "book")
    made = Lab(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}api/status", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def menu(page: Page, *path: str) -> None:
    for name in path:
        page.get_by_role("menuitem", name=re.compile(f"^{re.escape(name)}")).click()  # a shortcut may follow


def opened(lab: Lab, chapter: str, open_page: Callable[..., Watched]) -> Page:
    """A chapter, with a kernel that waits, and then all its cells on their way."""
    address = f"{lab.url}lab/workspaces/{chapter}/tree/book/{chapter}.ipynb"
    page = open_page(address, allow=lab.url, viewport={"width": 1280, "height": 900}).page
    page.set_default_timeout(180_000)
    page.get_by_text("(ipykernel) | Idle").wait_for()
    menu(page, "Run", "Run All Cells")
    page.locator(".jp-Notebook .js-plotly-plot").first.wait_for()
    return page


def begin_to_train(page: Page) -> None:
    page.get_by_role("button", name="Train", exact=True).wait_for()
    page.get_by_text("(ipykernel) | Idle").wait_for()
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text(re.compile(r"synthetic images .*: update \d+ of ")).wait_for()


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


def left_in(folder: Path) -> set[str]:
    """What lies there beside the chapters and what JupyterLab keeps of them."""
    return {path.name for path in folder.iterdir()} - {"setting.ipynb", "learning-rates.ipynb", ".ipynb_checkpoints"}


def test_a_chapter_runs_and_its_sliders_recompute(lab: Lab, open_page: Callable[..., Watched]):
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


def test_two_chapters_are_live_at_once(lab: Lab, open_page: Callable[..., Watched]):
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


def test_a_kernel_that_is_interrupted_restarted_or_killed_leaves_no_mess(lab: Lab, open_page: Callable[..., Watched], tmp_path: Path):
    page = opened(lab, "learning-rates", open_page)
    begin_to_train(page)
    menu(page, "Kernel", "Interrupt Kernel")
    page.get_by_text("Stopped. A run that is stopped leaves no record.").wait_for()
    begin_to_train(page)
    menu(page, "Kernel", "Restart Kernel and Run All Cells…")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.get_by_text(re.compile("update .* of ")).wait_for(state="detached")
    begin_to_train(page)
    for kernel in lab.kernels():
        kernel.kill()
    page.get_by_text("Kernel Restarting").wait_for()  # JupyterLab says that it died, and starts another
    page.get_by_role("button", name="Ok", exact=True).click()
    page.get_by_text("(ipykernel) | Idle").wait_for()
    assert complaints(page) == []
    assert left_in(tmp_path / "book") == set()


def test_a_server_that_is_stopped_in_a_run_and_started_again_leaves_no_mess(lab: Lab, open_page: Callable[..., Watched], tmp_path: Path):
    page = opened(lab, "learning-rates", open_page)
    begin_to_train(page)
    kernels = lab.kernels()
    assert kernels
    lab.stop()
    assert psutil.wait_procs(kernels, timeout=30)[1] == [], "none goes on training unseen"
    lab.start()
    page.close()
    page = opened(lab, "learning-rates", open_page)
    begin_to_train(page)
    assert complaints(page) == []
    assert left_in(tmp_path / "book") == set()
