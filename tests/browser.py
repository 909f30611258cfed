"""Chromium for tests: found, started with the network blocked, and watched for messages and requests."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import plotly
import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

ARGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
ASSETS = Path(__file__).parent.parent / "book" / "_assets"
SCRIPTS = ("explore-looks.js", "explore-sheets.js", "explore.js", "explore-tools.js")  # in the order that bnbook loads them
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def find_chrome() -> str | None:
    """$CHROME, else an installed Chromium or Chrome; None leaves it to the one that `playwright install chromium` brings."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("CHROME") or next((path for name in names if (path := shutil.which(name))), None)


def launch(playwright: Playwright) -> Browser:
    """A headless browser that asks for nothing by itself."""
    return playwright.chromium.launch(executable_path=find_chrome(), args=ARGS)


@dataclass
class Watched:
    """A page, with what it said on its console and what it asked the network for."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fails where the page said anything, or asked for anything beyond itself."""
        assert not self.messages, self.messages
        assert not self.requests, self.requests


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a process."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """`open_page(url, allow=…, **context)`: a watched page; requests that are not to a file or begin with `allow` are blocked."""
    contexts = []

    def open_page(url: str, allow: str = "file:", **context: Any) -> Watched:
        contexts.append(browser.new_context(**context))
        watched = Watched(contexts[-1].new_page())

        def route(route: Any) -> None:
            if route.request.url.startswith(("file:", "data:", "blob:", allow)):
                route.continue_()
            else:
                watched.requests.append(route.request.url)
                route.abort()

        contexts[-1].route("**/*", route)
        watched.page.on("console", lambda message: watched.messages.append(f"{message.type}: {message.text}"))
        watched.page.on("pageerror", lambda error: watched.messages.append(f"error: {error}"))
        watched.page.goto(url)
        return watched

    yield open_page
    for context in contexts:
        context.close()


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 46rem; padding: 0 1rem; }
html[data-theme="dark"] { background: #14181e; color: #ced6dd; }
"""


def write_page(folder: Path, *blocks: str) -> str:
    """A page of figures, with the scripts, the style and the plotly.js that they need beside it; returns its file:// address."""
    for source in (*(ASSETS / name for name in (*SCRIPTS, "explore.css")), PLOTLY):
        shutil.copy(source, folder)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>figures</title>'
    links = '<link rel="stylesheet" href="explore.css">' + "".join(f'<script defer src="{name}"></script>' for name in SCRIPTS)
    page, body = folder / "page.html", "\n".join(blocks)
    page.write_text(
        f'<!doctype html><html lang="en" data-theme="light"><head>{head}{links}<style>{STYLE}</style></head><body>{body}</body></html>',
        encoding="utf-8",
    )
    return page.as_uri()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a server of this machine gives the files of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def wait_drawn(page: Page, name: str, stops: str | None = None) -> None:
    """Wait until a figure has drawn the stops given, such as "0,2", or any."""
    page.wait_for_function(
        "([name, stops]) => { const d = document.getElementById(name).dataset.drawn; return stops === null ? d : d === stops }",
        arg=[name, stops],
    )
