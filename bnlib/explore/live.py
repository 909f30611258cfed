"""Train your own: a network of the reader's choice, trained in a running notebook while its curves grow.

These runs are for looking at. Their records go to a folder of their own, where nothing that the book shows is looked up.
"""

import datetime
import html
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ipywidgets
import plotly.graph_objects as go
from IPython import get_ipython

from bnlib import data, records, train
from bnlib.config import ConfigError, DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.explore.explorer import is_static, view_of
from bnlib.figures.style import RED, SERIES, Axis, Series, figure, place
from bnlib.studies import DEPTHS, LADDER

TRAIN, TEST = 2000, 500  # images, the first of the data set
EPOCHS, BATCH = 5, 64
REFRESH = 0.3  # seconds between two looks at a run

_at_work: set[threading.Event] = set()  # set to stop the runs of this kernel


class TrainYourOwn:
    """A workbench with a kernel; without one, as in the built book, a line that says where there is one. Arguments as for `Bench`."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    @cached_property
    def bench(self) -> "Bench":
        """The workbench, made when it is first asked for."""
        return Bench(**self.arguments)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if is_static():
            return {"text/markdown": "*It takes a running notebook: `make lab` opens this chapter as one.*"}
        return view_of(self.bench.widget)


class Bench:
    """Controls for depth, learning rate, normaliser and seed; Train and Stop; a progress bar; loss and accuracy as they come.

    `folder` takes the records of runs that came to an end, `device` is where they are trained, `start` where the controls are at first.
    """

    def __init__(self, folder: str | Path = "runs", device: str = "cpu", **start: Any) -> None:
        self.folder, self.device = Path(folder), device
        self.controls = _controls({"depth": 8, "lr": 0.1, "norm": "batch", "seed": 0} | start)
        self.train = ipywidgets.Button(description="Train", button_style="primary")
        self.stop = ipywidgets.Button(description="Stop", disabled=True)
        self.clear = ipywidgets.Button(description="Clear")
        self.progress, self.message, self.view = ipywidgets.IntProgress(value=0, max=1), ipywidgets.HTML(), go.FigureWidget(_panels())
        rows = ([*self.controls.values()], [self.train, self.stop, self.clear, self.progress])
        boxes = [ipywidgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        self.widget = ipywidgets.VBox([*boxes, self.message, self.view])
        self.running: threading.Thread | None = None
        self.stopping = threading.Event()
        self.train.on_click(self._begin)
        self.stop.on_click(lambda _: self.stopping.set())
        self.clear.on_click(self._clear)
        self.dataset: data.Dataset | None = None
        self.why = ""  # the images are not CIFAR-10
        if kernel := getattr(get_ipython(), "kernel", None):
            kernel.saved_sigint_handler = _interrupt  # which is in force after this cell; else a kernel at rest ignores Interrupt

    def run(self) -> RunConfig:
        """The run that the controls ask for, on the images at hand."""
        assert self.dataset is not None
        chosen = {name: field.value for name, field in self.controls.items()}
        return RunConfig(
            "own",
            chosen["seed"],
            ModelConfig(depth=chosen["depth"], norm=chosen["norm"]),
            DataConfig("synthetic" if self.dataset.variant == "synthetic" else "cifar10", TRAIN, TEST),
            train=TrainConfig(lr=chosen["lr"], epochs=EPOCHS, batch=BATCH),
        )

    def _begin(self, _: Any) -> None:
        if self.running is not None and self.running.is_alive():
            return
        self.stopping.clear()
        self.train.disabled, self.stop.disabled = True, False
        _at_work.add(self.stopping)
        self.running = threading.Thread(target=self._train, daemon=True)
        self.running.start()

    def _clear(self, _: Any) -> None:
        if self.running is None or not self.running.is_alive():
            self.view.data = ()

    def _train(self) -> None:
        """Load, train and record; whatever goes wrong is shown."""
        try:
            self._images()
            self._follow(self.run())
        except train.Stopped:
            self._say("Stopped. A run that is stopped leaves no record.")
        except Exception as error:
            self._say(f'<span style="color: {RED}">{type(error).__name__}: {html.escape(" ".join(str(error).split()))}</span>')
        finally:
            _at_work.discard(self.stopping)
            self.train.disabled, self.stop.disabled = False, True

    def _images(self) -> None:
        """CIFAR-10 where it is at hand, else the synthetic images; raises DataError for images that are neither."""
        if self.dataset is None:
            self._say("Loading the images …")
            try:
                dataset = data.load(DataConfig())
                dataset.require_known()
            except data.DataError as error:
                self.why = f" ({html.escape(str(error))})"
                dataset = data.load(DataConfig("synthetic"))
            self.dataset = dataset

    def _follow(self, run: RunConfig) -> None:
        assert self.dataset is not None
        assert run.model is not None
        assert run.train is not None
        which = f"ResNet-{run.model.depth} {SERIES[run.model.norm].label} at {run.train.lr:g}, seed {run.seed}"
        images = f"{TRAIN:,} {'synthetic' if self.dataset.variant == 'synthetic' else 'CIFAR-10'} images"
        lines, losses = self._lines(SERIES[run.model.norm], which), list[float]()
        began, clock, shown = datetime.datetime.now(datetime.UTC), time.monotonic(), 0.0

        def look(trainer: train.Trainer) -> None:
            nonlocal shown
            if self.stopping.is_set():
                raise train.Stopped
            losses.append(trainer.seen[(trainer.step - 1) % trainer.steps_per_epoch, 0].item())
            if (now := time.monotonic()) - shown > REFRESH:
                self._draw(lines, losses, trainer.rows)
                self.progress.max, self.progress.value = trainer.steps, trainer.step
                left = (now - clock) / trainer.step * (trainer.steps - trainer.step)
                self._say(f"{which}, on {images}{self.why}: update {trainer.step} of {trainer.steps}, about {left:.0f} s left")
                shown = now

        result = train.train(run, self.dataset, [look], self.device)
        self._draw(lines, losses, result.measured, result.status != "completed")
        self.progress.value = self.progress.max
        try:
            kept = f"The record: <code>{html.escape(str(self._record(run, result, began)))}</code>, apart from the book's."
        except records.RecordError as error:
            kept = (
                f'<span style="color: {RED}">No record is kept: {html.escape(str(error))}.</span> Another folder: TrainYourOwn(folder=…).'
            )
        self._say(f"{which}, on {images}{self.why}: {_end(result)} {kept}")

    def _lines(self, series: Series, name: str) -> Sequence[go.Scatter]:
        """The empty curves of a new run: loss, accuracy on the test and on the training images, divergence. Those before turn faint."""
        look = {"color": series.colour, "width": 2}
        panels = [place(0), place(1), place(1), place(0)]
        traces = [
            go.Scatter(mode="lines", line=look, name=name),
            go.Scatter(mode="lines+markers", line=look, name=f"{name}, test"),
            go.Scatter(mode="lines", line=look | {"dash": "dot"}, name=f"{name}, training"),
            go.Scatter(mode="markers", marker={"symbol": "x", "size": 9, "color": RED}, name=f"{name} diverged"),
        ]
        with self.view.batch_update():
            for trace in self.view.data:
                trace.opacity = 0.3
        self.view.add_traces(traces, rows=[p["row"] for p in panels], cols=[p["col"] for p in panels])
        added: Sequence[go.Scatter] = self.view.data[-4:]
        return added

    def _draw(self, lines: Sequence[go.Scatter], losses: list[float], rows: Mapping[str, Any], diverged: bool = False) -> None:
        loss, test, training, gone = lines
        with self.view.batch_update():
            loss.x, loss.y = list(range(len(losses))), losses[:]
            for line, name in ((test, "test_acc"), (training, "train_acc")):
                line.x, line.y = list(rows["epoch"]), [100 * share for share in rows[name]]
            if diverged and losses:
                gone.x, gone.y = [len(losses) - 1], losses[-1:]

    def _record(self, run: RunConfig, result: train.Result, began: datetime.datetime) -> Path:
        """Write the run's record, unless the same run was recorded before."""
        path = records.path_of(run, self.folder)
        if path.exists():
            return path
        return records.write(records.new(run, result.measured, began, result.seconds, data=self.dataset, status=result.status), self.folder)

    def _say(self, text: str) -> None:
        self.message.value = text


def _interrupt(*_: Any) -> None:
    for stopping in list(_at_work):
        stopping.set()


def _controls(start: dict[str, Any]) -> dict[str, ipywidgets.ValueWidget]:
    """An input for each setting, by its name. Raises ConfigError on a start that is no stop."""
    options: dict[str, tuple[str, list[tuple[str, Any]]]] = {
        "depth": ("depth", [(str(depth), depth) for depth in DEPTHS]),
        "lr": ("learning rate", [(f"{rate:g}", rate) for rate in LADDER]),
        "norm": ("normaliser", [(series.label, norm) for norm, series in SERIES.items()]),
        "seed": ("seed", [(str(seed), seed) for seed in range(10)]),
    }
    for name, (text, stops) in options.items():
        if start[name] not in [value for _, value in stops]:
            raise ConfigError(f"there is no {text} {start[name]}; there are {', '.join(str(value) for _, value in stops)}")
    look = {"style": {"description_width": "initial"}}
    kinds = {name: ipywidgets.Dropdown if name == "norm" else ipywidgets.SelectionSlider for name in options}
    return {name: kinds[name](options=stops, value=start[name], description=text, **look) for name, (text, stops) in options.items()}


def _panels() -> go.Figure:
    """Loss against update, accuracy against epoch, and no curve."""
    updates = EPOCHS * -(-TRAIN // BATCH)
    loss = Axis("update", 0, updates), Axis("", 0.1, 10, log=True)
    accuracy = Axis("epoch", 0, EPOCHS + 0.2), Axis("", 0, 100)
    fig = figure("", loss, accuracy, names=("Loss of each mini-batch", "Accuracy, %: test solid, training dotted"), height=340)
    return fig.update_yaxes(autorange=True, tickmode="auto", exponentformat="power", **place(0))


def _end(result: train.Result) -> str:
    if result.status != "completed":
        return f"<b>diverged</b> after {result.measured['steps']} updates, the loss having left all bounds."
    return f"<b>{100 * result.measured['test_acc'][-1]:.1f} %</b> of the test images right, after {result.seconds:.0f} s."
