"""A progress bar for the cells that train, and one line in place of a traceback for a reader who interrupts them."""

import time
from types import TracebackType
from typing import Self

from IPython import get_ipython
from IPython.display import HTML, display

from bnlib.explore.explorer import is_static
from bnlib.train import Trainer

REFRESH = 0.3  # seconds between two looks at a run


class Interrupted(KeyboardInterrupt):
    """An interrupt of a cell that trains, which a notebook shows as one line."""

    def _render_traceback_(self) -> list[str]:  # by this name IPython asks an exception how it is to be shown
        return [str(self)]


class Progress:
    """A callback of `train.train` that shows how far a run is, within its `with`; without a kernel, and in the built book, nothing.

        with Progress() as progress:
            result = train.train(run, images, [progress])

    The bar is gone when the block ends. An interrupt within the block is raised anew as `Interrupted`.
    """

    def __enter__(self) -> Self:
        live = getattr(get_ipython(), "kernel", None) is not None and not is_static()
        self._place = display(HTML(""), display_id=True) if live else None
        self._said, self._shown = "before the first update", 0.0
        return self

    def __call__(self, trainer: Trainer) -> None:
        """Show where the run is, unless the last look was a moment ago."""
        self._said = f"after update {trainer.step} of {trainer.steps}"
        if self._place is not None and (now := time.monotonic()) - self._shown > REFRESH:
            text = f"update {trainer.step} of {trainer.steps}"
            self._place.update(HTML(f'<label><progress value="{trainer.step}" max="{trainer.steps}"></progress> {text}</label>'))
            self._shown = now

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._place is not None:
            self._place.update(HTML(""))
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"Interrupted {self._said}; nothing is kept of this run.") from None
