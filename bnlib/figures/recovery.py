"""How high a loss has been, and what became of the network. Records of the studies `recovery` and `max-lr` in, figures out."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from bnlib.figures.depth import PAIR
from bnlib.figures.marks import crosses, label, theory
from bnlib.figures.style import SERIES, TEXT, Axis, figure
from bnlib.records import Record
from bnlib.studies import outcome
from bnlib.text import readable
from bnlib.train import CHANCE, RISEN, WINDOW

_FAR, _HIGH, _LOST = 1e6, 3.0, 3.3  # where losses are drawn that lie beyond, and those that are no number
_PEAK = Axis(
    "highest loss of a mini-batch",
    2,
    1.6e6,
    log=True,
    ticks=(10, 100, 1e3, 1e4, 1e5, 1e6),
    labels=("10", "100", "10³", "10⁴", "10⁵", "10⁶+"),
)
_END = Axis("loss at the end", 1.5, 3.4, ticks=(1.5, 2, CHANCE, _HIGH, _LOST), labels=("1.5", "2", "ln 10", "3+", "lost"))
_GLYPHS = {"batch": "●", "none": "◆"}


def decided(recovery: Sequence[Record], max_lr: Sequence[Record]) -> list[Record]:
    """The runs whose fate is known: those of `recovery`, and of `max-lr` those of other settings that were not stopped while finite."""
    again = {_setting(run) for run in recovery}
    return [*recovery, *(run for run in max_lr if _setting(run) not in again and (run.status == "completed" or math.isinf(peak(run))))]


def _setting(run: Record) -> tuple[object, ...]:
    assert run.config.train is not None
    return run.config.model, run.config.train.lr, run.config.seed


def peak(run: Record) -> float:
    """The highest loss of a mini-batch; infinite where one was not finite."""
    loss = run.array("step_loss")
    return float(loss.max()) if np.isfinite(loss).all() else math.inf


def _highest(run: Record) -> float:
    """The highest that was finite."""
    loss = run.array("step_loss")
    return float(np.max(loss, where=np.isfinite(loss), initial=0.0))


def risen(runs: Sequence[Record]) -> list[Record]:
    """The runs with a loss beyond the paper's limit."""
    return [run for run in runs if peak(run) > RISEN]


def highest_return(runs: Sequence[Record]) -> float:
    """The highest loss from which a run has learned; NaN where none has learned at all."""
    return max((peak(run) for run in runs if outcome(run) == "trains"), default=math.nan)


def fates(runs: Sequence[Record], depth: int = 0) -> go.Figure:
    """The mean of a run's last 20 losses against its highest, each run a mark; of one depth, or of all, which is 0.

    A red cross at the top: the loss came to be no number, after the highest that still was one.
    The title names the highest loss from which any learned.
    """
    chosen = [run for run in runs if run.config.model is not None and depth in (0, run.config.model.depth)]
    past, best = risen(chosen), highest_return(chosen)
    again = sum(outcome(run) == "trains" for run in past)
    said = f"{again or 'None'} of {len(past)} runs past 1000 learn{'s' * (again < 2)}" if past else "No run is past 1000"
    if len(past) == 1:
        said = f"The one run past 1000 {'learns' if again else 'does not learn'}"
    if best <= RISEN:
        said += f", nor does any past {readable(best)}" if past else f"; none learns after a loss past {readable(best)}"
    fig = figure(said, (_PEAK, _END))
    theory(fig, np.array([RISEN, RISEN]), np.array([_END.low, _END.high]), "the paper's limit")
    label(fig, RISEN, 2.0, "the paper's limit", TEXT)
    theory(fig, np.array([_PEAK.low, _PEAK.high]), np.array([CHANCE, CHANCE]), "ln 10, that of knowing nothing")
    for norm in PAIR:
        series = SERIES[norm]
        ended = [run for run in chosen if run.config.model is not None and run.config.model.norm == norm and run.status == "completed"]
        end = [float(run.array("step_loss")[-WINDOW:].mean()) for run in ended]
        look = {"symbol": series.symbol, "size": 7, "color": series.colour, "opacity": 0.6}
        at = [min(peak(run), _FAR) for run in ended]
        fig.add_scatter(x=at, y=np.minimum(end, _HIGH), mode="markers", marker=look, name=series.label)
    gone = np.array([min(_highest(run), _FAR) for run in chosen if run.status != "completed"])
    crosses(fig, gone, np.full(len(gone), _LOST), name="no longer a number")
    for norm, shift in zip(PAIR, (16, -2), strict=True):
        label(fig, 8, 1.6, f"{_GLYPHS[norm]} {SERIES[norm].label}", SERIES[norm].colour, shift=shift)
    return fig
