"""Fixtures that several test modules share."""

from browser import browser, open_page

__all__ = ["browser", "open_page"]
