"""Stochastic gradient descent on a CIFAR ResNet by the paper's protocol (Sec 1.2, which follows He et al. 2016, Sec 4.2).

The images lie on the device as bytes; a mini-batch is gathered, augmented and standardised there. One seed decides all: the
weights, the order of the images and their augmentation. A `Trainer` can be saved after any update and resumed, bit for bit.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bnlib import data, nets
from bnlib.config import ConfigError, RunConfig, TrainConfig

DIVERGED = 1e3  # times max(1, initial loss); the paper's limit is 1e3 itself, which an unnormalised net may exceed at the start
KEPT = 300  # updates whose mini-batch loss is kept one by one, from the first
PATIENCE = 10  # epochs without a lower training loss after which the "plateau" schedule divides the rate
WINDOW = 20  # mini-batches over which `outcome` averages


@dataclass(frozen=True)
class Result:
    """What a run came to: `status` is "completed" or "diverged@<updates made>"; `measured` as listed in `Trainer`."""

    status: str
    measured: dict[str, Any]
    seconds: float


Callback = Callable[["Trainer"], None]


class Stopped(Exception):
    """Raised by a callback to leave a run after the present update."""


def train(
    run: RunConfig,
    dataset: data.Dataset | None = None,
    callbacks: Iterable[Callback] = (),
    device: str | torch.device = "cpu",
    resume: dict[str, Any] | None = None,
) -> Result:
    """Train the network of `run` to its end, from the start or from the `state_dict` of a Trainer.

    Each callback is called with the Trainer after every update, at the end of an epoch after the test. Raises ConfigError where
    `run` has no model, data or train section, and whatever a callback raises.
    """
    trainer = Trainer(run, dataset, device)
    if resume is not None:
        trainer.load_state_dict(resume)
    with arithmetic(trainer.setting):
        return trainer.finish(list(callbacks))


class Trainer:
    """A run in progress. Its `rows` become the curves, one entry an epoch (the last may be the part before a divergence):

    epoch           passes over the training images made
    lr              learning rate of the epoch's last update
    train_loss, train_acc    mean cross-entropy and share of right answers over the epoch's images, in training mode, as seen on the way
    test_loss, test_acc      the same over the test images, in evaluation mode, after the epoch
    gradient_norm   mean over the epoch's updates of the norm of the whole gradient, weight decay apart
    seconds         time the epoch took, test included

    and beside them are measured

    initial_loss    of the first mini-batch, before any update
    step_loss       of each of the first 300 mini-batches, before its update
    steps           updates made
    above_1e3       number of updates after which a mini-batch's loss first exceeded 1e3, the paper's absolute limit; None if never
    """

    def __init__(self, run: RunConfig, dataset: data.Dataset | None = None, device: str | torch.device = "cpu") -> None:
        if run.model is None or run.data is None or run.train is None:
            raise ConfigError(f"a run that trains needs the sections model, data and train; this one has {', '.join(run.sections())}")
        self.run, self.setting, self.device = run, run.train, torch.device(device)
        _check_precision(self.setting.precision, self.device)
        dataset = (dataset or data.load(run.data)).to(self.device)
        self.x, self.y = (_first(part, run.data.train_size) for part in (dataset.x_train, dataset.y_train))
        self.x_test, self.y_test = (_first(part, run.data.test_size) for part in (dataset.x_test, dataset.y_test))
        self.dataset = dataset
        self.net = nets.build(run.model, run.seed).to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = nets.parameter_groups(self.net, self.setting.lr, self.setting.weight_decay)
        self.optimiser = torch.optim.SGD(groups, momentum=self.setting.momentum, fused=self.device.type == "cuda")
        self.share = [group["lr"] / self.setting.lr for group in groups]  # Fixup and SkipInit have a slower group
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimiser, factor=0.1, patience=PATIENCE)
        self.generator = torch.Generator(self.device).manual_seed(_stream(run.seed, 1))
        self.step = 0
        self.steps_per_epoch = -(-len(self.y) // self.setting.batch)
        self.steps = self.setting.steps or self.setting.epochs * self.steps_per_epoch
        self.rows: dict[str, list[Any]] = {name: [] for name in _ROWS}
        self.step_loss: list[float] = []
        self.above_1e3: int | None = None
        self.diverged: int | None = None
        # Of each update in this epoch: loss, right answers, gradient norm. Read only now and then: reading waits for the device.
        self.seen = torch.zeros(self.steps_per_epoch, 3, dtype=torch.float64, device=self.device)
        self.read = 0
        self.seconds = self.epoch_began = 0.0  # of training; a resumed run goes on counting
        self.clock = time.perf_counter()

    @property
    def epoch(self) -> float:
        """Passes over the training images made so far."""
        return self.step / self.steps_per_epoch

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        if self.setting.schedule == "plateau":
            return float(self.optimiser.param_groups[0]["lr"])
        return self.setting.lr * _factor(self.setting.schedule, self.step, self.steps)

    def finish(self, callbacks: list[Callback]) -> Result:
        """Make the updates that remain."""
        self.clock = time.perf_counter()
        every = 1 if self.device.type == "cpu" else 50
        while self.step < self.steps and self.diverged is None:
            for chosen in self.order():
                self.update(*self.mini_batch(chosen))
                ended = self.step % self.steps_per_epoch == 0 or self.step == self.steps
                if ended or self.step % every == 0:
                    self._look()
                if self.diverged is not None:
                    break
                if ended and not self.setting.steps:
                    self._end_epoch(*self.test())
                for callback in callbacks:
                    callback(self)
                if self.step == self.steps:
                    break
        if self.diverged is not None and not self.setting.steps:
            self._end_epoch(math.nan, math.nan)
        return self.result()

    def result(self) -> Result:
        """What was measured so far."""
        measured: dict[str, Any] = {name: list(row) for name, row in self.rows.items()} if not self.setting.steps else {}
        measured |= {
            "initial_loss": self.step_loss[0] if self.step_loss else math.nan,
            "step_loss": list(self.step_loss),
            "steps": self.step,
            "above_1e3": self.above_1e3,
        }
        return Result("completed" if self.diverged is None else f"diverged@{self.diverged}", measured, self._tick())

    def order(self) -> Iterator[Tensor]:
        """The mini-batches that remain of this epoch, as indices of training images."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(_stream(self.run.seed, 2, epoch))
        order = torch.randperm(len(self.y), generator=generator).to(self.device)
        yield from torch.split(order, self.setting.batch)[done:]

    def mini_batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """These training images, augmented and standardised, and their labels."""
        x = self.x[chosen]
        if self.setting.augment:
            x = data.augment(x, self.generator)
        return self._ready(x), self.y[chosen]

    def _ready(self, x: Tensor) -> Tensor:
        return self.dataset.standardise(x).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.setting.precision == "bf16")

    def update(self, x: Tensor, y: Tensor) -> None:
        """One step of gradient descent on the mini-batch x, y."""
        if self.setting.schedule != "plateau":
            for group, share in zip(self.optimiser.param_groups, self.share, strict=True):
                group["lr"] = self.lr * share
        with self._autocast():
            logits = self.net(x)
            loss = F.cross_entropy(logits, y)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in self.net.parameters() if p.grad is not None]).norm()
            right = (logits.argmax(1) == y).sum()
            self.seen[self.step % self.steps_per_epoch] = torch.stack([loss.detach().double(), right.double(), norm.double()])
        self.optimiser.step()
        self.step += 1

    def _look(self) -> None:
        """Read the losses since the last look, and find the update, if any, before which the loss had left all bounds."""
        start = (self.step - 1) // self.steps_per_epoch * self.steps_per_epoch
        losses = self.seen[self.read - start if self.read > start else 0 : self.step - start, 0].tolist()
        for step, loss in enumerate(losses, start=self.step - len(losses)):
            if step < KEPT:
                self.step_loss.append(loss)
            if self.above_1e3 is None and not loss <= 1e3:
                self.above_1e3 = step
            if not (math.isfinite(loss) and loss <= DIVERGED * max(1.0, self.step_loss[0])):
                self.step = self.diverged = step
                break
        self.read = self.step

    def test(self) -> tuple[float, float]:
        """Mean cross-entropy and share of right answers over the test images, in evaluation mode."""
        self.net.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        with torch.no_grad(), self._autocast():
            for x, y in zip(torch.split(self.x_test, 500), torch.split(self.y_test, 500), strict=True):
                logits = self.net(self._ready(x))
                loss += F.cross_entropy(logits, y, reduction="sum").double()
                right += (logits.argmax(1) == y).sum()
        self.net.train()
        return loss.item() / len(self.y_test), right.item() / len(self.y_test)

    def _end_epoch(self, test_loss: float, test_acc: float) -> None:
        made = (self.step - 1) % self.steps_per_epoch + 1 if self.step else 0
        counts = torch.full((made,), float(self.setting.batch), dtype=torch.float64)
        if made == self.steps_per_epoch:
            counts[-1] = len(self.y) - (made - 1) * self.setting.batch
        loss, right, norm = self.seen[:made].cpu().unbind(1)
        images = counts.sum().item() or math.nan
        row = {
            "epoch": self.epoch,
            "lr": float(self.optimiser.param_groups[0]["lr"]),
            "train_loss": (loss * counts).sum().item() / images,
            "train_acc": right.sum().item() / images,
            "test_loss": test_loss,
            "test_acc": test_acc,
            "gradient_norm": norm.sum().item() / (made or math.nan),
            "seconds": self._tick() - self.epoch_began,
        }
        self.epoch_began = self.seconds
        for name in _ROWS:
            self.rows[name].append(row[name])
        if self.setting.schedule == "plateau":
            self.plateau.step(row["train_loss"])

    def _tick(self) -> float:
        now = time.perf_counter()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        return self.seconds

    def state_dict(self) -> dict[str, Any]:
        """All that decides how the run goes on, after any update."""
        self._tick()
        return {
            "run": self.run.to_dict(),
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "plateau": self.plateau.state_dict(),
            "generator": self.generator.get_state(),
            "seen": self.seen,
            **{name: getattr(self, name) for name in _STATE},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken. Raises ConfigError if that was another run."""
        if state["run"] != self.run.to_dict():
            raise ConfigError(f"the state is that of another run than {self.run.run_id}")
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.plateau.load_state_dict(state["plateau"])
        self.generator.set_state(state["generator"].cpu())
        self.seen.copy_(state["seen"])
        for name in _STATE:
            setattr(self, name, state[name])


_ROWS = ("epoch", "lr", "train_loss", "train_acc", "test_loss", "test_acc", "gradient_norm", "seconds")
_STATE = ("step", "read", "rows", "step_loss", "above_1e3", "diverged", "seconds", "epoch_began")


def outcome(status: str, step_loss: list[float]) -> str:
    """How a short run went, by its last 20 mini-batch losses: "diverged", "dead", "trains" or "slow".

    diverged   the run's status says so
    trains     their mean is below 2.2
    dead       they stay at ln 10, what a net says that knows nothing: mean within 0.05 of it, standard deviation below 0.03
    slow       none of these
    """
    if status.startswith("diverged"):
        return "diverged"
    last = np.array(step_loss[-WINDOW:])
    if last.mean() < 2.2:
        return "trains"
    return "dead" if abs(last.mean() - math.log(10)) < 0.05 and last.std() < 0.03 else "slow"


def _factor(schedule: str, step: int, steps: int) -> float:
    """Share of the initial rate for update `step` of `steps`: "steps" divides by 10 at 50 % and again at 75 %."""
    return 0.1 ** ((2 * step >= steps) + (4 * step >= 3 * steps)) if schedule == "steps" else 1.0


def _stream(*key: int) -> int:
    """A seed of its own for each use of a run's seed."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _first(part: Tensor, count: int) -> Tensor:
    if count > len(part):
        raise ConfigError(f"{count} images are asked for; the data set has {len(part)}")
    return part[:count]


def _check_precision(precision: str, device: torch.device) -> None:
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError("precision tf32 needs a GPU; choose fp32 or bf16")


@contextmanager
def arithmetic(setting: TrainConfig) -> Iterator[None]:
    """Threads and precision as the run asks for them, and afterwards as they were."""
    threads, tf32 = torch.get_num_threads(), (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    torch.set_num_threads(setting.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting.precision == "tf32"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
