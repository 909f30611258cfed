"""What a reader waits for: each figure of each page of the built book, opened from disk in a fresh Chromium without a network.

    python bench/page.py [--html _build/html] [--moves 60] [--pages gradients depth]

Still and live: from the start of navigation, a link to the figure, until its static picture is laid out and until plotly has drawn it.
Each measured at the next frame. A move: a control set to another of its stops, the figure drawn, styled and laid out, all on the page's
main thread; the moves go over the stops of each control in turn. Own data: the figures' HTML in the page, pictures and all states.
Whole page: every file that it loads, not compressed. Prints the section of bench/README.md.
"""

import argparse
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from browser import launch
from playwright.sync_api import Browser, sync_playwright

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
MOVES = """async ([name, count]) => {
  const block = document.getElementById(name), inputs = [...block.querySelectorAll("[data-keys]")], times = [];
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  for (let i = 0; i < count; i++) {
    const input = inputs[i % inputs.length], stops = JSON.parse(input.dataset.keys).length;
    const stop = (Math.floor(i / inputs.length) + 1 + Number(input.dataset.start)) % stops;
    await frame();
    const start = performance.now();
    if (input.type === "checkbox") input.checked = stop === 1;
    else if (input.type === "range") input.value = stop;
    else input.selectedIndex = stop;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    block.getBoundingClientRect();
    times.push(performance.now() - start);
  }
  return times;
}"""


def figure(browser: Browser, page: Path, name: str, moves: int) -> dict[str, Any]:
    """Milliseconds to the still and to the live figure, and of each move; the bytes of all files loaded."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    opened, loaded = context.new_page(), set[Path]()
    opened.on("request", lambda request: loaded.add(Path(unquote(urlsplit(request.url).path))) if request.url.startswith("file:") else None)
    opened.add_init_script(WATCH)
    opened.goto(f"{page.as_uri()}#{name}")
    opened.wait_for_function("name => window.firsts[name]?.live", arg=name)
    opened.wait_for_timeout(500)
    found = opened.evaluate("name => window.firsts[name]", name) | {"moves": opened.evaluate(MOVES, [name, moves])}
    context.close()
    return found | {"bytes": sum(path.stat().st_size for path in loaded)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--html", type=Path, default=Path("_build/html"))
    parser.add_argument("--moves", type=int, default=60, help="of each figure")
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
            f"no network, nothing cached; {args.moves} moves a figure. Wanted: still 1 s, live 2 s, a move 16 ms (median) and 33 ms (95th"
        )
        print("percentile), own data 400 kB.\n")
        print("| page | figure | still, s | live, s | move, median, ms | move, 95th, ms | page's own data, kB | whole page, MB |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for page in sorted((args.html.resolve() / "book").glob("*.html")):
            content = page.read_text(encoding="utf-8")
            blocks = re.findall(r'<figure class="bnx" id="([^"]*)".*?</figure>', content, flags=re.DOTALL)
            if not blocks or (args.pages and page.stem not in args.pages):
                continue
            own = sum(len(found[0].encode()) for found in re.finditer(r'<figure class="bnx".*?</figure>', content, flags=re.DOTALL))
            for name in blocks:
                found = figure(browser, page, name, args.moves)
                cells = [page.stem, name, f"{found['still'] / 1e3:.2f}", f"{found['live'] / 1e3:.2f}"]
                cells += [f"{statistics.median(found['moves']):.1f}", f"{statistics.quantiles(found['moves'], n=20)[-1]:.1f}"]
                cells += [f"{own / 1e3:.0f}", f"{found['bytes'] / 1e6:.1f}"]
                print(f"| {' | '.join(cells)} |", flush=True)
        browser.close()
    options = " ".join(sys.argv[1:])
    print(f"\nMade by `python bench/page.py{' ' + options if options else ''}`.")


if __name__ == "__main__":
    main()
