"""Fixtures that several test modules share."""

from browser import browser, open_page
from chapters import built

__all__ = ["browser", "built", "open_page"]
