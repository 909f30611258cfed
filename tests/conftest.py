"""Fixtures that several test modules share."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the order of summation depends on the threads; read when torch is first imported

from browser import browser, open_page
from chapters import built

__all__ = ["browser", "built", "open_page"]
