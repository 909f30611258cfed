"""The training loop against a plain one, its divergence, and its resumption."""

import copy
import io
import itertools
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bnlib import data, nets, train
from bnlib.config import ConfigError, DataConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.train import loop
from bnlib.train.device import Alarm, Graphs, arithmetic, on_stream

IMAGES = data.synthetic(100, 30)
SMALL = DataConfig("synthetic", 100, 30)


def run(norm: str = "batch", block: str = "residual", seed: int = 0, images: DataConfig = SMALL, **setting: Any) -> RunConfig:
    model = ModelConfig(depth=8, norm=norm, block=block)
    return RunConfig("fig1", seed, model, images, train=TrainConfig(**{"lr": 0.1, "epochs": 4, "batch": 32, **setting}))


def without_times(result: train.Result) -> tuple[str, dict[str, Any]]:
    return result.status, {name: value for name, value in result.measured.items() if name != "seconds"}


@pytest.mark.parametrize(("norm", "block"), [("batch", "residual"), ("none", "fixup")])
def test_it_does_what_a_plain_loop_does(norm: str, block: str):
    config = run(norm, block, augment=False, lr=0.01)
    measured = train.train(config, IMAGES).measured
    net = nets.build(config.model, 0).to(memory_format=torch.channels_last)  # rounding grows a hundredfold an epoch
    slow = [p for p in net.parameters() if block == "fixup" and p.ndim < 2]
    fast = [p for p in net.parameters() if not (block == "fixup" and p.ndim < 2)]
    x = (IMAGES.x_train.float() / 255 - IMAGES.mean[:, None, None]) / IMAGES.std[:, None, None]
    x_test = (IMAGES.x_test.float() / 255 - IMAGES.mean[:, None, None]) / IMAGES.std[:, None, None]
    x, x_test = (part.contiguous(memory_format=torch.channels_last) for part in (x, x_test))
    momentum: dict[Any, torch.Tensor] = {}
    for epoch, lr in enumerate([0.01, 0.01, 0.001, 0.0001]):
        order = torch.randperm(100, generator=torch.Generator().manual_seed(loop._stream(0, 2, epoch)))
        total = right = norms = 0.0
        for chosen in (order[:32], order[32:64], order[64:96], order[96:]):
            logits = net(x[chosen])
            loss = F.cross_entropy(logits, IMAGES.y_train[chosen])
            net.zero_grad()
            loss.backward()
            norms += sum(p.grad.square().sum().item() for p in net.parameters()) ** 0.5
            with torch.no_grad():
                for p in net.parameters():
                    step = p.grad + 1e-4 * p
                    momentum[p] = 0.9 * momentum[p] + step if p in momentum else step
                    p -= (lr / 10 if any(p is q for q in slow) else lr) * momentum[p]
            total += loss.item() * len(chosen)
            right += (logits.argmax(1) == IMAGES.y_train[chosen]).sum().item()
        net.eval()
        with torch.no_grad():
            logits = net(x_test)
        net.train()
        row = {
            "epoch": epoch + 1,
            "lr": lr,
            "train_loss": total / 100,
            "train_acc": right / 100,
            "gradient_norm": norms / 4,
            "test_loss": F.cross_entropy(logits, IMAGES.y_test).item(),
            "test_acc": (logits.argmax(1) == IMAGES.y_test).float().mean().item(),
        }
        for name, value in row.items():
            assert measured[name][epoch] == pytest.approx(value, rel=1e-3), name
    assert measured["steps"] == 16
    assert fast


class StopAfter:
    """Keeps the bytes of the state after some update, and stops."""

    def __init__(self, step: int) -> None:
        self.step, self.saved = step, io.BytesIO()

    def __call__(self, trainer: train.Trainer) -> None:
        if trainer.step == self.step:
            torch.save(trainer.state_dict(), self.saved)
            raise train.Stopped


def resumed(config: RunConfig, step: int) -> train.Result:
    stop = StopAfter(step)
    with pytest.raises(train.Stopped):
        train.train(config, IMAGES, [stop])
    stop.saved.seek(0)
    return train.train(config, IMAGES, resume=torch.load(stop.saved, weights_only=True))


@pytest.mark.parametrize("schedule", ["steps", "plateau"])
def test_a_resumed_run_repeats_the_uninterrupted_one_to_the_bit(schedule: str):
    config = run(schedule=schedule)
    whole = without_times(train.train(config, IMAGES))
    assert whole[0] == "completed"
    for step in range(1, 16):
        assert without_times(resumed(config, step)) == whole


def test_a_state_of_another_run_is_refused():
    state = train.Trainer(run(), IMAGES).state_dict()
    with pytest.raises(ConfigError, match="another run"):
        train.train(run(seed=1), IMAGES, resume=state)


def test_the_seed_decides_everything():
    one, same, other = (without_times(train.train(run(seed=seed, epochs=1), IMAGES)) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_neither_the_global_random_state_nor_the_threads_are_touched():
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train.train(run(epochs=1, threads=2), IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_every_image_is_seen_once_an_epoch_the_last_partial_batch_too():
    trainer = train.Trainer(run(), IMAGES)
    orders = []
    for epoch in range(2):
        sizes = []
        for _ in range(4):
            assert len(trainer.mini_batch()[1]) == trainer.count
            sizes.append(trainer.count)
            trainer.advance()
        assert sizes == [32, 32, 32, 4]
        orders.append(trainer.order.flatten()[:100].tolist())
        assert sorted(orders[epoch]) == list(range(100))
    assert orders[0] != orders[1]


def test_looking_at_the_next_mini_batch_changes_nothing():
    plain, curious = train.Trainer(run(), IMAGES), train.Trainer(run(), IMAGES)
    for _ in range(6):
        x, _ = curious.mini_batch()
        again, _ = curious.mini_batch()
        assert torch.equal(x, again)
        assert x.is_contiguous(memory_format=torch.channels_last)
        plain.advance()
        curious.advance()
    assert all(torch.equal(p, q) for p, q in zip(plain.net.parameters(), curious.net.parameters(), strict=True))


def test_only_the_first_images_are_used():
    trainer = train.Trainer(run(images=DataConfig("synthetic", 40, 20)), IMAGES)
    assert torch.equal(trainer.x, IMAGES.x_train[:40])
    assert torch.equal(trainer.y_test, IMAGES.y_test[:20])
    with pytest.raises(ConfigError, match="101 images are asked for; the data set has 100"):
        train.Trainer(run(images=DataConfig("synthetic", 101, 30)), IMAGES)


@given(st.integers(1, 10_000), st.data())
def test_the_rate_falls_tenfold_at_half_and_at_three_quarters(steps: int, choice: st.DataObject):
    step = choice.draw(st.integers(0, steps - 1))
    expected = 1.0 if step < steps / 2 else 0.1 if step < 3 * steps / 4 else 0.01
    assert loop._factor("steps", step, steps) == pytest.approx(expected)
    assert loop._factor("constant", step, steps) == 1


def test_the_plateau_schedule_divides_the_rate_once_the_loss_stops_falling():
    measured = train.train(run(schedule="plateau", lr=1e-12, epochs=14, augment=False, batch=100), IMAGES).measured
    assert measured["lr"] == pytest.approx([1e-12] * 12 + [1e-13] * 2)


def test_divergence_ends_a_run_and_keeps_what_was_measured():
    result = train.train(run("none", lr=1e6), IMAGES)
    step = int(result.status.removeprefix("diverged@"))
    losses = result.measured["step_loss"]
    assert result.measured["steps"] == step == len(losses) - 1
    assert losses[-1] > 1e3 * max(1, losses[0]) or not math.isfinite(losses[-1])
    assert all(loss <= 1e3 * max(1, losses[0]) for loss in losses[:-1])
    assert result.measured["above_1e3"] <= step
    assert result.measured["epoch"] == [step / 4]
    assert math.isnan(result.measured["test_acc"][-1])
    assert result.measured["train_loss"][-1] == pytest.approx(np.mean(losses[:step]), rel=1e-6)


def test_without_a_limit_a_run_goes_on_as_long_as_its_loss_is_finite():
    class Spoil:
        def __init__(self, weight: float) -> None:
            self.weight = weight

        def __call__(self, trainer: train.Trainer) -> None:
            if trainer.step == 2:
                with torch.no_grad():
                    trainer.net.linear.weight.fill_(self.weight).mul_(torch.eye(10, 64))

    setting = {"lr": 1e-9, "steps": 4}
    assert train.train(run(**setting), IMAGES, [Spoil(1e6)]).status == "diverged@2"
    result = train.train(run(**setting, limit=0.0), IMAGES, [Spoil(1e6)])
    assert result.status == "completed"
    assert result.measured["above_1e3"] == 2
    assert len(result.measured["step_loss"]) == 4
    assert train.train(run(**setting, limit=0.0), IMAGES, [Spoil(math.inf)]).status == "diverged@2"
    assert train.train(run(**setting, limit=1e9), IMAGES, [Spoil(1e6)]).status == "completed"


@pytest.mark.parametrize(("step", "epochs"), [(6, [1.0, 1.5]), (4, [1.0]), (8, [1.0, 2.0])])
def test_divergence_in_a_later_epoch_keeps_the_whole_epochs(step: int, epochs: list[float]):
    class Blow:
        def __call__(self, trainer: train.Trainer) -> None:
            if trainer.step == step:
                with torch.no_grad():
                    trainer.net.linear.weight.fill_(math.inf)

    result = train.train(run(), IMAGES, [Blow()])
    assert result.status == f"diverged@{step}"
    assert result.measured["epoch"] == epochs
    assert np.isfinite(result.measured["test_loss"]).tolist() == [epoch == int(epoch) for epoch in epochs]


def test_a_state_can_be_loaded_into_a_trainer_that_has_gone_on():
    trainer, other = train.Trainer(run(), IMAGES), train.Trainer(run(), IMAGES)
    trainer.advance()
    trainer._look()
    state = copy.deepcopy(trainer.state_dict())
    expected = without_times(trainer.finish([]))
    for _ in range(3):
        other.advance()
    other.load_state_dict(state)
    assert without_times(other.finish([])) == expected
    assert state["step_loss"] == expected[1]["step_loss"][:1], "the state is left as it was"


@pytest.mark.parametrize("start", [math.nan, math.inf])
def test_a_net_that_starts_without_a_finite_loss_has_diverged_at_once(start: float):
    trainer = train.Trainer(run(), IMAGES)
    with torch.no_grad():
        trainer.net.linear.bias.fill_(start)
    assert trainer.finish([]).status == "diverged@0"


def test_the_limit_scales_with_the_first_loss_above_one():
    def diverges(first: float, loss: float) -> bool:
        trainer = train.Trainer(run(), IMAGES)
        trainer.seen[:2, 0] = torch.tensor([first, loss])
        trainer.step = 2
        trainer._look()
        return trainer.diverged == 1

    assert diverges(0.1, 1001)
    assert not diverges(0.1, 999)
    assert diverges(50, 50_001)
    assert not diverges(50, 49_999)


def test_a_run_of_steps_makes_them_and_is_not_tested():
    result = train.train(run(steps=6), IMAGES)
    assert set(result.measured) == {"initial_loss", "step_loss", "logit_spread", "steps", "above_1e3"}
    assert len(result.measured["step_loss"]) == result.measured["steps"] == 6
    longer = train.train(run(steps=9, schedule="constant"), IMAGES).measured["step_loss"]
    assert longer[:3] == result.measured["step_loss"][:3]


def test_whole_epochs_keep_the_first_losses_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop, "KEPT", 3)
    assert len(train.train(run(epochs=1), IMAGES).measured["step_loss"]) == 3
    assert len(train.train(run(steps=5), IMAGES).measured["step_loss"]) == 5


def test_bf16_differs_from_fp32_but_not_by_much():
    exact, rough = (train.train(run(precision=name, epochs=1), IMAGES).measured["step_loss"] for name in ("fp32", "bf16"))
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.1)


def test_tf32_is_refused_without_a_gpu():
    with pytest.raises(ConfigError, match="needs a GPU; choose fp32 or bf16"):
        train.train(run(precision="tf32"), IMAGES)


def test_a_run_without_a_section_it_needs_is_refused():
    with pytest.raises(ConfigError, match="a section train; this one has model, data, probe"):
        train.train(RunConfig("init", 0, ModelConfig(), DataConfig(), ProbeConfig()), IMAGES)


def test_callbacks_see_each_update_once_and_each_test():
    seen = []
    train.train(run(epochs=2), IMAGES, [lambda trainer: seen.append((trainer.step, len(trainer.rows["test_acc"])))])
    assert seen == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1), (7, 1), (8, 2)]


@pytest.mark.parametrize(
    ("status", "losses", "spread", "name"),
    [
        ("diverged@3", [1.0] * 4, 9.0, "diverged"),
        ("completed", [2.0] * 100, 0.5, "trains"),
        ("completed", [9.0] * 80 + [2.1] * 20, 0.5, "trains"),
        ("completed", [2.303] * 100, 0.0, "dead"),
        ("completed", [2.303] * 100, 0.5, "slow"),
        ("completed", [60.0] * 100, 0.0, "slow"),
        ("completed", [1.0] * 80 + [2.25] * 20, 0.5, "slow"),
    ],
)
def test_outcomes(status: str, losses: list[float], spread: float, name: str):
    assert train.outcome(status, losses, spread) == name


def test_the_spread_of_the_logits_is_zero_in_a_net_that_says_the_same_of_every_image():
    class Silence:
        def __call__(self, trainer: train.Trainer) -> None:
            with torch.no_grad():
                trainer.net.linear.weight.zero_()

    assert train.train(run(steps=5), IMAGES).measured["logit_spread"] > 0.05
    assert train.train(run(steps=5), IMAGES, [Silence()]).measured["logit_spread"] == 0


def test_a_late_look_names_the_same_update_and_keeps_the_same_curves():
    """As on a GPU, where the losses are read now and then: what the net did after its divergence leaves no trace."""
    config = run("none", lr=1e6, epochs=40)
    at_once = without_times(train.train(config, IMAGES))
    trainer = train.Trainer(config, IMAGES)
    trainer.look_every = 3
    made = []
    assert without_times(trainer.finish([lambda t: made.append(t.step)])) == at_once
    assert trainer.step == int(at_once[0].removeprefix("diverged@"))
    trainer = train.Trainer(run(), IMAGES)
    trainer.look_every = 7
    assert without_times(trainer.finish([])) == without_times(train.train(run(), IMAGES))


def test_the_alarm_answers_without_waiting_and_stays_up():
    alarm = Alarm(torch.device("cpu"))
    assert not alarm.raised()
    alarm.update(torch.tensor(True))
    assert not alarm.raised(), "the answer may be one question old"
    alarm.update(torch.tensor(False))
    assert alarm.raised()


class FakeGraph:
    """A graph as the host sees it: what is called while capturing happens only at each replay."""

    capturing: "FakeGraph | None" = None

    def __init__(self) -> None:
        self.captured: list[Any] = []

    def __enter__(self) -> None:
        FakeGraph.capturing = self

    def __exit__(self, *error: object) -> None:
        FakeGraph.capturing = None

    def replay(self) -> None:
        for call in self.captured:
            call()


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch):
    class Stream:
        def synchronize(self) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **how: graph)


def test_replaying_a_captured_update_is_the_update(fake_cuda):
    """The warm-up leaves no trace, and each size of mini-batch has a graph of its own."""
    plain, replayed = train.Trainer(run(), IMAGES), train.Trainer(run(), IMAGES)
    updates = []

    def update(count: int) -> None:
        if FakeGraph.capturing is not None:
            FakeGraph.capturing.captured.append(lambda: replayed._update(count))
        else:
            updates.append(count)
            replayed._update(count)

    replayed.graphs = Graphs(update, replayed._changed_by_an_update)
    assert without_times(replayed.finish([])) == without_times(plain.finish([]))
    assert updates == [32, 32, 32, 4, 4, 4]
    assert all(torch.equal(p, q) for p, q in zip(plain.net.state_dict().values(), replayed.net.state_dict().values(), strict=True))


def test_compiled_blocks_share_the_weights_of_the_net(monkeypatch: pytest.MonkeyPatch):
    class Compiled(torch.nn.Module):
        def __init__(self, block: torch.nn.Module, **how: bool) -> None:
            super().__init__()
            self.block = block

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(x)

    monkeypatch.setattr(torch, "compile", Compiled)
    eager, fast = (train.train(run(engine=engine), IMAGES) for engine in ("eager", "compiled"))
    assert without_times(eager) == without_times(fast)


def test_every_kind_of_block_is_compiled_for_every_size_of_mini_batch():
    """In a process of its own: the compiler cannot see through the checks of types and shapes that are on in this one."""
    script = """
from functools import partial
import torch
from torch._dynamo.utils import counters
from bnlib import data, train
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig

torch.compile = partial(torch.compile, backend="eager")  # traced, but not translated, for which there need be a compiler
setting = TrainConfig(engine="compiled", steps=3, batch=32)
train.train(RunConfig("try", 0, ModelConfig(depth=20), DataConfig("synthetic", 80, 1), train=setting), data.synthetic(80, 1))
print(counters["stats"]["unique_graphs"])
"""
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert made.stdout.split() == ["10"], f"five kinds, mini-batches of 32 and of 16\n{made.stderr}"


def test_runs_that_share_a_setting_go_side_by_side_and_others_wait():
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with arithmetic(TrainConfig(threads=1)):
            order.append("first in")
            inside.set()
            leave.wait()
            order.append("first out")

    def other() -> None:
        with arithmetic(TrainConfig(threads=2)):
            order.append("other in")

    first, second = threading.Thread(target=hold), threading.Thread(target=other)
    first.start()
    inside.wait()
    with arithmetic(TrainConfig(threads=1)):
        order.append("same in")
    second.start()
    leave.set()
    first.join()
    second.join()
    assert order == ["first in", "same in", "first out", "other in"]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 29))
def test_the_test_averages_over_images_not_batches(count: int):
    trainer = train.Trainer(run(images=replace(SMALL, test_size=count)), IMAGES)
    loss, acc = trainer.test()
    one_by_one = train.Trainer(run(images=replace(SMALL, test_size=count)), IMAGES)
    one_by_one.net.eval()
    with torch.no_grad():
        logits = torch.cat([one_by_one.net(one_by_one._ready(x[None])) for x in one_by_one.x_test])
    assert loss == pytest.approx(F.cross_entropy(logits, one_by_one.y_test).item(), rel=1e-4)
    assert acc == pytest.approx((logits.argmax(1) == one_by_one.y_test).float().mean().item())
    assert trainer.net.training


def test_runs_beside_each_other_have_streams_of_their_own(monkeypatch: pytest.MonkeyPatch):
    """CUDA hands out its streams in turn; one that another run still has is passed over."""
    handed = itertools.cycle(range(32))

    class Stream:
        def __init__(self, device: str) -> None:
            self.cuda_stream = next(handed)

        def wait_stream(self, other: object) -> None: ...

    taken: list[int] = []

    @contextmanager
    def taking(stream: Stream) -> Iterator[None]:
        taken.append(stream.cuda_stream)
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "stream", taking)
    with ExitStack() as stack:
        stack.enter_context(on_stream("cuda"))
        for _ in range(40):  # short runs beside a long one
            with on_stream("cuda"):
                pass
        assert taken.count(taken[0]) == 1
        for _ in range(31):
            stack.enter_context(on_stream("cuda"))
        assert len(set(taken[-31:] + taken[:1])) == 32
        with pytest.raises(ConfigError, match="32 runs at once"), on_stream("cuda"):
            pass
    with on_stream("cuda"):
        pass
