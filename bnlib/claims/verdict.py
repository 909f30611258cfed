"""How a claim is judged: a verdict is computed from the records of at least three seeds, never typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from bnlib.text import ten_to

Word = Literal["reproduced", "partly", "not reproduced", "indicative", "not yet measured", "not testable here"]
WORDS: tuple[Word, ...] = get_args(Word)
SEEDS = 3  # that a verdict needs


@dataclass(frozen=True)
class Verdict:
    """What a claim says, in our words; what it came to; and the numbers that decided it."""

    claim: str
    word: Word
    because: str
    unmet: str = ""  # of a claim that holds in part: what does not

    @property
    def reason(self) -> str:
        """The numbers and, where the claim holds in part, what does not, as sentences."""
        return f"{self.because[0].upper()}{self.because[1:]}." + f" Not met: {self.unmet}." * bool(self.unmet)

    def markdown(self) -> str:
        """The verdict as a page shows it: the claim, what it came to, and why."""
        return f"> **Verdict: {self.word}.** {self.claim} {self.reason}"


def decide(*holds: Bool[np.ndarray, " seeds"]) -> Word:
    """*Reproduced* if every part of a claim holds on every seed, *not reproduced* if none does on any.

    Fewer than three seeds are *indicative* at most: where on these every part holds.
    """
    seeds = min(len(part) for part in holds)
    if seeds < SEEDS:
        return "indicative" if seeds and all(part.all() for part in holds) else "not yet measured"
    parts = [bool(part.all()) for part in holds]
    return "reproduced" if all(parts) else "partly" if any(part.any() for part in holds) else "not reproduced"


def judge(claim: str, parts: Mapping[str, Bool[np.ndarray, " seeds"]], because: str) -> Verdict:
    """The verdict on a claim of several parts, each under what it asks for; the numbers that decide it are in `because`."""
    word = decide(*parts.values())
    failed = [asked + f" (on {(~part).sum()} of {len(part)} seeds)" * bool(part.any()) for asked, part in parts.items() if not part.all()]
    return Verdict(claim, word, because, "; ".join(failed) if word == "partly" else "")


def pending(claim: str, seeds: int) -> Verdict:
    """The verdict on a claim as long as there are fewer seeds than it needs."""
    return Verdict(claim, "not yet measured", f"it takes {SEEDS} seeds; so far there are {seeds}")


def spread(values: Sequence[float] | Float[np.ndarray, " n"], form: str = ".3g") -> str:
    """Such as "2.1 (1.8 to 2.6)": the median over seeds, and the range; powers of ten written out, "overflow" for infinity, and for NaN
    "none in 1 of 3 seeds".
    """
    there = np.asarray(values)[~np.isnan(values)]
    none = f"none in {len(values) - len(there)} of {len(values)} seeds"
    if not len(there):
        return none
    low, mid, high = (_written(format(float(x), form)) for x in (np.min(there), np.median(there), np.max(there)))
    return f"{mid} ({low} to {high})" + f", {none}" * (len(there) < len(values))


def _written(text: str) -> str:
    mantissa, power, exponent = text.partition("e")
    if not power or abs(float(text)) >= 1e6 or abs(float(text)) < 1:
        return f"{mantissa}×{ten_to(int(exponent))}" if power else mantissa.replace("inf", "overflow")
    return f"{float(text):,.0f}"
