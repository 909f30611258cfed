"""A figure with controls: a widget with a kernel, a page without one; and training by buttons."""

from bnlib.explore.explorer import Explorer, explore, is_static, view_of
from bnlib.explore.progress import Interrupted, Progress

__all__ = ["Explorer", "Interrupted", "Progress", "explore", "is_static", "view_of"]
