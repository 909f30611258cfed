"""How a claim is judged: a verdict is computed from the records of at least three seeds, never typed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from bnlib.records import Record, select

Word = Literal["reproduced", "partly", "not reproduced"]


@dataclass(frozen=True)
class Verdict:
    """What a claim says, in our words; what it came to; and the numbers that decided it."""

    claim: str
    word: Word
    because: str

    def markdown(self) -> str:
        """The verdict as a page shows it: the claim, what it came to, and the numbers."""
        return f"> **Verdict: {self.word}.** {self.claim} {self.because[0].upper()}{self.because[1:]}."


def decide(*holds: Bool[np.ndarray, " seeds"]) -> Word:
    """*Reproduced* if every part of a claim holds on every one of at least three seeds, *not reproduced* if none does on any."""
    if min(len(part) for part in holds) < 3:
        raise ValueError("a verdict needs at least three seeds")
    parts = [bool(part.all()) for part in holds]
    return "reproduced" if all(parts) else "partly" if any(part.any() for part in holds) else "not reproduced"


def spread(values: Sequence[float] | Float[np.ndarray, " n"], form: str = ".3g") -> str:
    """Such as "2.1 (1.8 to 2.6)": the median over seeds, and the range."""
    low, mid, high = (format(float(x), form) for x in (np.min(values), np.median(values), np.max(values)))
    return f"{mid} ({low} to {high})"


def in_paper_setting(records: Sequence[Record], norm: str, depth: int = 110) -> list[Record]:
    """The record of each seed of the paper's residual network of this depth, with this normaliser."""
    return select(records, norm=norm, depth=depth, init="xavier", shortcut="projection", block="residual")


def per_seed(records: Sequence[Record], norm: str, measure: Callable[[Record], float]) -> Float[np.ndarray, " seeds"]:
    """`measure` of each seed's record in the paper's setting."""
    return np.array([measure(record) for record in in_paper_setting(records, norm)])
