"""The README's picture: a figure of the built book with its sliders. `make book`, then `python bench/picture.py [page [figure]]`."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
LARGEST = 100_000  # bytes, of a file that git keeps
# The title, the controls and the drawing, with a margin, and nothing that floats above them.
STYLE = ".bnx { padding: 12px } .bnx-source, .bnx-copy, .bd-header-article, #pst-back-to-top { display: none !important }"


def take(page: Path, figure: str, target: Path) -> None:
    """Write a figure of a built page, in light colours, as a PNG. Raises SystemExit where it is too large."""
    sys.path.append(str(ROOT / "tests"))
    from browser import launch, wait_drawn

    with sync_playwright() as playwright:
        browser = launch(playwright)
        shown = browser.new_page(viewport={"width": 900, "height": 1000}, device_scale_factor=1.25, color_scheme="light")
        shown.goto(page.absolute().as_uri())
        shown.add_style_tag(content=STYLE)
        block = shown.locator(f"#{figure}")
        block.scroll_into_view_if_needed()
        wait_drawn(shown, figure)
        block.screenshot(path=target, animations="disabled")
        browser.close()
    if (size := target.stat().st_size) > LARGEST:
        raise SystemExit(f"{target} takes {size} bytes; at most {LARGEST} are allowed")
    print(f"{target}: {size} bytes")


if __name__ == "__main__":
    page, figure = [*sys.argv[1:], *["_build/html/book/index.html", "first"][len(sys.argv) - 1 :]]
    take(Path(page), figure, ROOT / "book" / "picture.png")
