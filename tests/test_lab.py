"""A chapter opened in JupyterLab: its cells run, its sliders recompute."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Watched
from chapters import ROOT, explorers


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab over a copy of a chapter, with no settings but its own."""
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "book" / "setting.ipynb", tmp_path / "book")
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


def test_a_chapter_runs_and_its_sliders_recompute(lab: str, open_page: Callable[..., Watched]):
    page = open_page(f"{lab}lab/tree/book/setting.ipynb", allow=lab, viewport={"width": 1280, "height": 900}).page
    page.get_by_text("(ipykernel) | Idle").wait_for(timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    figure = next(iter(explorers("book/setting").values()))
    plot, slider = page.locator(".jp-Notebook .js-plotly-plot").first, page.locator(".jp-Notebook .noUi-handle").first
    plot.wait_for(timeout=180_000)

    def drawn() -> list[float]:
        return plot.evaluate("plot => plot.data.flatMap(trace => [...trace.y])")

    def expected(**state: float) -> list[float]:
        return [y for trace in figure.figure(**state).data for y in trace.y]

    np.testing.assert_allclose(drawn(), expected(), rtol=1e-6)
    slider.focus()
    slider.press("ArrowRight")
    after = expected(mean=figure.controls[0].values[figure.controls[0].start + 1])
    page.wait_for_function(
        "ys => document.querySelector('.js-plotly-plot').data.flatMap(t => [...t.y]).every((y, i) => Math.abs(y - ys[i]) < 1e-6)",
        arg=after,
    )
    np.testing.assert_allclose(drawn(), after, rtol=1e-6)
    assert page.locator(".jp-Notebook .jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
