"""Stochastic gradient descent on a CIFAR ResNet by the paper's protocol (Sec 1.2, which follows He et al. 2016, Sec 4.2).

The images lie on the device as bytes, and so does the plan of an epoch: which images each update takes, how they are moved, and
its learning rate. An update needs nothing of the host, so that a GPU can replay it as one graph. One seed decides all: weights,
order and augmentation. A `Trainer` can be saved after any update and resumed, bit for bit.
"""

import copy
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from bnlib import data, nets
from bnlib.config import ConfigError, RunConfig
from bnlib.train.device import Alarm, Graphs, arithmetic, check_precision, compiled, on_stream

RISEN = 1e3  # the paper's limit of a loss, which an unnormalised net may exceed at the start; so a run's own is that of max(1, first loss)
KEPT = 100  # updates whose mini-batch loss is kept one by one, from the first; of a run of `steps`, all
PATIENCE = 10  # epochs without a lower training loss after which the "plateau" schedule divides the rate
CHANCE = math.log(nets.CLASSES)  # the loss of a net that knows nothing
WINDOW = 20  # mini-batches over which `outcome` averages


@dataclass(frozen=True)
class Result:
    """What a run came to: `status` is "completed" or "diverged@<updates made>"; `measured` as listed in `Trainer`."""

    status: str
    measured: dict[str, Any]
    seconds: float
    began: float  # seconds since 1970; of a resumed run too


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
    if run.train is None:
        raise ConfigError(f"a run that trains needs a section train; this one has {', '.join(run.sections())}")
    with arithmetic(run.train), on_stream(device):
        trainer = Trainer(run, dataset, device)
        if resume is not None:
            trainer.load_state_dict(resume)
        try:
            return trainer.finish(list(callbacks))
        finally:
            trainer.graphs = None  # they hold on to the trainer, and so to the GPU's memory


class Trainer:
    """A run in progress. Its `rows` become the curves, one entry an epoch (the last may be the part before a divergence):

    epoch           passes over the training images made
    lr              learning rate of the epoch's last update
    train_loss, train_acc    mean cross-entropy and share of right answers over the epoch's images, in training mode, as seen on the way
    test_loss, test_acc      the same over the test images, in evaluation mode, after the epoch
    gradient_norm   mean over the epoch's updates of the norm of the whole gradient, weight decay apart, before any clipping
    seconds         time the epoch took, test included

    and beside them are measured

    initial_loss    of the first mini-batch, before any update
    step_loss       of each of the first 100 mini-batches, in a run of `steps` of all, before its update
    logit_spread    standard deviation of the logits over the images of the last mini-batch, mean over the classes
    steps           updates made
    above_1e3       number of updates after which a mini-batch's loss first exceeded 1e3, the paper's absolute limit; None if never
    """

    def __init__(self, run: RunConfig, dataset: data.Dataset | None = None, device: str | torch.device = "cpu") -> None:
        if run.model is None or run.data is None or run.train is None:
            raise ConfigError(f"a run that trains needs the sections model, data and train; this one has {', '.join(run.sections())}")
        self.run, self.setting, self.device = run, run.train, torch.device(device)
        check_precision(self.setting.precision, self.device)
        self.dataset = (dataset or data.load(run.data)).to(self.device)
        self.x, self.y = (_first(part, run.data.train_size) for part in (self.dataset.x_train, self.dataset.y_train))
        self.x_test, self.y_test = (_first(part, run.data.test_size) for part in (self.dataset.x_test, self.dataset.y_test))
        self.steps_per_epoch = -(-len(self.y) // self.setting.batch)
        self.steps = updates(run)

        self.net = nets.build(run.model, run.seed).to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward = compiled(self.net) if self.setting.engine == "compiled" else self.net
        groups = nets.parameter_groups(self.net, self.setting.lr, self.setting.weight_decay)
        self.shares = [group["lr"] / self.setting.lr for group in groups]  # Fixup and SkipInit have a slower group
        if self.device.type == "cuda":  # a graph reads its rate from the device
            groups = [group | {"lr": torch.tensor(group["lr"], device=self.device)} for group in groups]
        self.optimiser = torch.optim.SGD(groups, momentum=self.setting.momentum, fused=self.device.type == "cuda")
        for weight in self.net.parameters():  # 0.9 x 0 + g is g: so the first update is like all others
            self.optimiser.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        stand_in = torch.optim.SGD([torch.zeros(())], lr=self.setting.lr)  # holds the rate of the "plateau" schedule
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(stand_in, factor=0.1, patience=PATIENCE)

        self.step = self.read = 0
        self.planned = -1
        self.rows: dict[str, list[Any]] = {name: [] for name in _ROWS}
        self.step_loss: list[float] = []
        self.above_1e3: int | None = None
        self.diverged: int | None = None
        self.began = time.time()
        self.seconds = self.epoch_began = 0.0  # of training; a resumed run goes on counting
        self.clock = time.perf_counter()

        length, size = self.steps_per_epoch, self.setting.batch
        self.order = torch.zeros(length, size, dtype=torch.int64, device=self.device)
        self.moves = torch.zeros(length, size, 3, dtype=torch.int64, device=self.device)
        self.rates = torch.zeros(length, dtype=torch.float64, device=self.device)
        self.at = torch.zeros(1, dtype=torch.int64, device=self.device)  # the epoch's next update
        self.seen = torch.zeros(length, 4, dtype=torch.float64, device=self.device)  # loss, right answers, gradient norm, logit spread
        self.limit = torch.full((), math.inf, dtype=torch.float64, device=self.device)
        self.alarm = Alarm(self.device)
        self.look_every = 1 if self.device.type == "cpu" else 50  # reading `seen` waits for the device, the alarm does not
        on_gpu = self.device.type == "cuda" and self.setting.engine != "eager"
        self.graphs = Graphs(self._update, self._changed_by_an_update) if on_gpu else None

    @property
    def epoch(self) -> float:
        """Passes over the training images made so far."""
        return self.step / self.steps_per_epoch

    @property
    def count(self) -> int:
        """Images in the next mini-batch: the last of an epoch has what is left."""
        return min(self.setting.batch, len(self.y) - self.step % self.steps_per_epoch * self.setting.batch)

    def finish(self, callbacks: list[Callback]) -> Result:
        """Make the updates that remain."""
        self.clock = time.perf_counter()
        while self.step < self.steps and self.diverged is None:
            self.advance()
            ended = self.step % self.steps_per_epoch == 0 or self.step == self.steps
            due = self.step % self.look_every == 0
            if ended or self.step == 1 or (due and (self.look_every == 1 or self.alarm.raised())):
                self._look()
            if self.diverged is None:
                if ended and not self.setting.steps:
                    self._end_epoch(*self.test())
                for callback in callbacks:
                    callback(self)
        begun = self.step % self.steps_per_epoch or not self.step  # an epoch, whose part before the divergence is its last row
        if self.diverged is not None and not self.setting.steps and begun:
            self._end_epoch(math.nan, math.nan)
        return self.result()

    def advance(self) -> None:
        """Make the next update."""
        self._plan()
        if self.graphs is not None:
            self.graphs(self.count)
        else:
            self._update(self.count)
        self.step += 1

    def _plan(self) -> None:
        """Draw the order and the moves of the present epoch, and find its learning rates."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        if epoch == self.planned:
            return
        order = torch.randperm(len(self.y), generator=torch.Generator().manual_seed(_stream(self.run.seed, 2, epoch)))
        generator = torch.Generator().manual_seed(_stream(self.run.seed, 1, epoch))
        moves = torch.cat([data.random_moves(len(part), generator) for part in torch.split(order, self.setting.batch)])
        self.order.flatten()[: len(order)] = order.to(self.device)
        self.moves.flatten(0, 1)[: len(order)] = moves.to(self.device)
        rates = [self._rate(epoch * self.steps_per_epoch + k) for k in range(self.steps_per_epoch)]
        self.rates.copy_(torch.tensor(rates, dtype=torch.float64))
        self.at.fill_(done)
        self.planned = epoch

    def _rate(self, step: int) -> float:
        if self.setting.schedule == "plateau":
            return float(self.plateau.optimizer.param_groups[0]["lr"])
        return self.setting.lr * _factor(self.setting.schedule, step, self.steps)

    def mini_batch(self, count: int | None = None) -> tuple[Float[Tensor, "batch 3 32 32"], Int64[Tensor, " batch"]]:
        """The images of the next update, moved and standardised, and their labels."""
        self._plan()
        count = count or self.count
        chosen = self.order.index_select(0, self.at)[0, :count]
        x = self.x[chosen]
        if self.setting.augment:
            x = data.augment(x, self.moves.index_select(0, self.at)[0, :count])
        return self._ready(x), self.y[chosen]

    def _ready(self, x: UInt8[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch 3 32 32"]:
        return self.dataset.standardise(x).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        # Without its cache, which would hold on to tensors of a graph.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.setting.precision == "bf16", cache_enabled=False)

    def _update(self, count: int) -> None:
        """One step of gradient descent on the next mini-batch, of `count` images: on a GPU, without a word from the host."""
        rate = self.rates.index_select(0, self.at)[0]
        for group, share in zip(self.optimiser.param_groups, self.shares, strict=True):
            if self.device.type == "cuda":
                group["lr"].copy_(rate * share)
            else:
                group["lr"] = rate.item() * share
        x, y = self.mini_batch(count)
        with self._autocast():
            logits = self.forward(x)
            loss = F.cross_entropy(logits, y)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
            norm = torch.stack(torch._foreach_norm(gradients)).norm()
            if self.setting.clip:
                torch._foreach_mul_(gradients, clipped(norm, self.setting.clip))
            right = (logits.argmax(1) == y).sum()
            spread = logits.float().std(0, correction=0).mean()
            row = torch.stack([part.double() for part in (loss, right, norm, spread)])
            self.seen.index_copy_(0, self.at, row[None])
            self.alarm.update(~(row[0] <= self.limit))  # so also where it is not a number
        self.optimiser.step()
        self.at += 1

    def _changed_by_an_update(self) -> list[Tensor]:
        momenta = [state["momentum_buffer"] for state in self.optimiser.state.values()]
        return [*self.net.parameters(), *self.net.buffers(), *momenta, self.seen, self.at, self.alarm.flag]

    def _look(self) -> None:
        """Read the losses since the last look, and find the update, if any, before which the loss had left all bounds."""
        start = (self.step - 1) // self.steps_per_epoch * self.steps_per_epoch
        losses = self.seen[max(self.read - start, 0) : self.step - start, 0].tolist()
        for step, loss in enumerate(losses, start=self.step - len(losses)):
            if step < (self.setting.steps or KEPT):
                self.step_loss.append(loss)
            if self.above_1e3 is None and not loss <= RISEN:
                self.above_1e3 = step
            if not (math.isfinite(loss) and loss <= self._most()):
                self.step = self.diverged = step
                break
        self.read = self.step
        self.limit.fill_(self._most())

    def _most(self) -> float:
        """The loss beyond which the run counts as diverged."""
        return self.setting.limit * max(1.0, self.step_loss[0]) if self.setting.limit else sys.float_info.max

    def test(self) -> tuple[float, float]:
        """Mean cross-entropy and share of right answers over the test images, in evaluation mode."""
        self.net.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        size = 500 if self.device.type == "cpu" else 2500
        with torch.no_grad(), self._autocast():
            for x, y in zip(torch.split(self.x_test, size), torch.split(self.y_test, size), strict=True):
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
        loss, right, norm, _ = self.seen[:made].cpu().unbind(1)
        images = counts.sum().item() or math.nan
        row = {
            "epoch": self.epoch,
            "lr": self._rate(max(self.step - 1, 0)),
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
        self.plateau.step(row["train_loss"])

    def result(self) -> Result:
        """What was measured so far."""
        measured: dict[str, Any] = {} if self.setting.steps else {name: list(row) for name, row in self.rows.items()}
        last = (self.step - 1) % self.steps_per_epoch
        measured |= {
            "initial_loss": self.step_loss[0] if self.step_loss else math.nan,
            "step_loss": list(self.step_loss),
            "logit_spread": self.seen[last, 3].item() if self.step else math.nan,
            "steps": self.step,
            "above_1e3": self.above_1e3,
        }
        return Result("completed" if self.diverged is None else f"diverged@{self.diverged}", measured, self._tick(), self.began)

    def _tick(self) -> float:
        now = time.perf_counter()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        return self.seconds

    def state_dict(self) -> dict[str, Any]:
        """All that decides how the run goes on, after any update; order and augmentation follow from the seed and the epoch."""
        self._tick()
        return {
            "run": self.run.to_dict(),
            "net": self.net.state_dict(),
            "momentum": [self.optimiser.state[weight]["momentum_buffer"] for weight in self.net.parameters()],
            "plateau": self.plateau.state_dict(),
            "plateau_lr": self.plateau.optimizer.param_groups[0]["lr"],
            "seen": self.seen,
            **{name: getattr(self, name) for name in _STATE},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken. Raises ConfigError if that was another run."""
        if RunConfig.from_dict(state["run"]) != self.run:
            raise ConfigError(f"the state is that of another run than {self.run.run_id}")
        self.net.load_state_dict(state["net"])
        for weight, momentum in zip(self.net.parameters(), state["momentum"], strict=True):
            self.optimiser.state[weight]["momentum_buffer"].copy_(momentum)
        self.plateau.load_state_dict(state["plateau"])
        self.plateau.optimizer.param_groups[0]["lr"] = state["plateau_lr"]
        self.seen.copy_(state["seen"])
        for name in _STATE:
            setattr(self, name, copy.deepcopy(state[name]))
        self.planned = -1
        self.alarm.flag.zero_()
        if self.step_loss:
            self.limit.fill_(self._most())


_ROWS = ("epoch", "lr", "train_loss", "train_acc", "test_loss", "test_acc", "gradient_norm", "seconds")
_STATE = ("step", "read", "rows", "step_loss", "above_1e3", "diverged", "began", "seconds", "epoch_began")


def updates(run: RunConfig) -> int:
    """Number of updates that `run` asks for."""
    assert run.train is not None
    assert run.data is not None
    return run.train.steps or run.train.epochs * -(-run.data.train_size // run.train.batch)


def outcome(status: str, step_loss: list[float], logit_spread: float) -> str:
    """How a short run went: "diverged", "dead", "trains" or "slow".

    diverged   the run's status says so
    trains     the mean of its last 20 mini-batch losses is below 2.2
    dead       that mean is within 0.05 of ln 10, and the net says the same of every image: the logits' spread is below 0.01
    slow       none of these
    """
    if status.startswith("diverged"):
        return "diverged"
    last = float(np.mean(step_loss[-WINDOW:]))
    if last < 2.2:
        return "trains"
    return "dead" if abs(last - CHANCE) < 0.05 and logit_spread < 0.01 else "slow"


def clipped(norm: Float[Tensor, ""], most: float) -> Float[Tensor, ""]:
    """min(1, most / norm): by what a gradient of this norm is multiplied, computed where `norm` lies, without a word from the host."""
    return (most / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_ has it


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
