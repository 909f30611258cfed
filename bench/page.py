"""What a reader waits for: each figure of each page of the built book, opened from disk in a fresh Chromium without a network.

    python bench/page.py [--html _build/html] [--moves 30] [--pages gradients depth]

Still and live: from the start of navigation, a link to the figure, until its static picture is laid out and until plotly has drawn it.
Each measured at the next frame. A move: a control set to another of its stops, the figure drawn, styled and laid out, all on the page's
main thread; the moves go over the stops of each control in turn, and the table has those of the slowest one.
Own data: the figures' HTML in the page, pictures and all states.
Whole page: every file that it loads, not compressed. Prints the section of bench/README.md.
"""

import argparse
import math
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from browser import launch
from playwright.sync_api import Browser, Page, sync_playwright

from bnlib import provenance

WATCH = """
  window.firsts = {};
  const look = () => {
    for (const block of document.querySelectorAll(".bnx")) {
      const times = window.firsts[block.id] ??= {};
      if (!times.still && block.querySelector(".bnx-still svg")?.getBoundingClientRect().height) times.still = performance.now();
      if (!times.live && block.dataset.drawn) times.live = performance.now();
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
"""
MOVE = """([name, i]) => {
  const block = document.getElementById(name), inputs = [...block.querySelectorAll("[data-keys]")];
  const input = inputs[i % inputs.length], stops = JSON.parse(input.dataset.keys).length;
  const stop = (Math.floor(i / inputs.length) + 1 + Number(input.dataset.start)) % stops;
  const start = performance.now();
  if (input.type === "checkbox") input.checked = stop === 1;
  else if (input.type === "range") input.value = stop;
  else input.selectedIndex = stop;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  block.getBoundingClientRect();
  return performance.now() - start;
}"""


def processor(pid: int) -> float:
    """Milliseconds of processor time of a process's main thread so far; NaN where the system does not tell."""
    told = Path(f"/proc/{pid}/schedstat")
    return int(told.read_text().split()[0]) / 1e6 if told.exists() else math.nan


def moves(browser: Browser, page: Page, name: str, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds by the clock and of processor time that each move of the slowest control takes, of `count` moves of each."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [one["id"] for one in processes if one["type"] == "renderer"]
    controls = page.locator(f"#{name} [data-keys]").count()
    clock, busy = [], []
    for i in range(count * controls):
        page.wait_for_timeout(40)  # until the last one is on the screen
        before = [processor(pid) for pid in renderers]
        clock.append(page.evaluate(MOVE, [name, i]))
        busy.append(max(processor(pid) - start for pid, start in zip(renderers, before, strict=True)))
    by_control = [(clock[i::controls], busy[i::controls]) for i in range(controls)]
    return max(by_control, key=lambda times: statistics.median(times[0]))


def figure(browser: Browser, page: Path, name: str, count: int) -> dict[str, Any]:
    """Milliseconds to the still and to the live figure, and of each move; the bytes of all files loaded."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    opened, loaded = context.new_page(), set[Path]()
    opened.on("request", lambda request: loaded.add(Path(unquote(urlsplit(request.url).path))) if request.url.startswith("file:") else None)
    opened.add_init_script(WATCH)
    opened.goto(f"{page.as_uri()}#{name}")
    opened.wait_for_function("name => window.firsts[name]?.live", arg=name)
    opened.wait_for_timeout(500)
    clock, busy = moves(browser, opened, name, count)
    found = opened.evaluate("name => window.firsts[name]", name) | {"clock": clock, "busy": busy}
    context.close()
    return found | {"bytes": sum(path.stat().st_size for path in loaded)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--html", type=Path, default=Path("_build/html"))
    parser.add_argument("--moves", type=int, default=30, help="of each control")
    parser.add_argument("--pages", nargs="+", help="only these")
    args = parser.parse_args()
    hardware = provenance.hardware()
    with sync_playwright() as playwright:
        browser = launch(playwright)
        print("## Pages: what a reader waits for\n")
        print(
            f"{time.strftime('%Y-%m-%d')}; {hardware['name']}, {hardware['cores']} cores; Chromium {browser.version}, headless, from disk,"
        )
        print(
            f"no network, nothing cached; {args.moves} moves a control. Wanted: still 1 s, live 2 s, a move 16 ms (median) and 33 ms (95th"
        )
        print("percentile), own data 400 kB. Moves in ms, of the slowest control; processor: of the page's thread, driver included.\n")
        print("| page | figure | still, s | live, s | move: clock, median | 95th | processor, median | 95th | own data, kB | whole, MB |")
        print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
        for page in sorted((args.html.resolve() / "book").glob("*.html")):
            content = page.read_text(encoding="utf-8")
            blocks = re.findall(r'<figure class="bnx" id="([^"]*)".*?</figure>', content, flags=re.DOTALL)
            if not blocks or (args.pages and page.stem not in args.pages):
                continue
            own = sum(len(found[0].encode()) for found in re.finditer(r'<figure class="bnx".*?</figure>', content, flags=re.DOTALL))
            for name in blocks:
                found = figure(browser, page, name, args.moves)
                cells = [page.stem, name, f"{found['still'] / 1e3:.2f}", f"{found['live'] / 1e3:.2f}"]
                for times in (found["clock"], found["busy"]):
                    cells += [f"{statistics.median(times):.1f}", f"{statistics.quantiles(times, n=20)[-1]:.1f}"]
                cells += [f"{own / 1e3:.0f}", f"{found['bytes'] / 1e6:.1f}"]
                print(f"| {' | '.join(cells)} |", flush=True)
        browser.close()
    load = (
        f" Load of the machine at the end: {os.getloadavg()[0]:.1f} processes on average over a minute."
        if hasattr(os, "getloadavg")
        else ""
    )
    options = " ".join(sys.argv[1:])
    print(f"\nMade by `python bench/page.py{' ' + options if options else ''}`.{load}")


if __name__ == "__main__":
    main()
