"""Train your own, in a real kernel and without one: curves grow, Stop stops, and whatever goes wrong is shown."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from bnlib import data, nets, records, train
from bnlib.claims import recorded
from bnlib.config import ConfigError, DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.explore import live, progress

ROOT = Path(__file__).parent.parent
SMALL = replace(data.synthetic(40, 20), variant="synthetic")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> live.Bench:
    """A workbench on a few synthetic images, in a folder of its own."""
    monkeypatch.setattr(live, "TRAIN", 40)
    monkeypatch.setattr(live, "TEST", 20)
    monkeypatch.setattr(live, "BATCH", 20)
    monkeypatch.setattr(data.Dataset, "require_known", lambda self: None)
    monkeypatch.setattr(data, "load", lambda config: SMALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    return live.Bench()


def press(bench: live.Bench) -> str:
    """Train to the end; returns what is said then."""
    bench.train.click()
    bench.running.join(60)
    assert not bench.running.is_alive()
    assert not bench.train.disabled
    assert bench.stop.disabled
    return bench.message.value


def test_a_run_fills_the_curves_and_leaves_a_record_apart(bench: live.Bench, tmp_path: Path):
    said = press(bench)
    assert "ResNet-8 with BN at 0.1, seed 0, on 40 synthetic images" in said
    (path,) = (tmp_path / "runs" / "own").iterdir()
    assert f"<code>runs/own/{path.name}</code>" in said
    assert bench.progress.value == bench.progress.max
    assert list((tmp_path / "results").iterdir()) == []
    assert recorded("own") == [], "a chapter that looked for such runs would not find them"
    with pytest.raises(records.RecordError, match="no record"):
        records.find("own")
    expected = train.train(bench.run(), SMALL).measured
    loss, test, training, crosses = bench.view.data
    assert list(loss.y) == pytest.approx(expected["step_loss"])
    assert list(test.y) == pytest.approx([100 * share for share in expected["test_acc"]])
    assert list(training.y) == pytest.approx([100 * share for share in expected["train_acc"]])
    assert not crosses.x


def test_the_curves_grow_while_it_trains(bench: live.Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "REFRESH", 0)
    lengths, draw = [], bench._draw

    def watch(lines, losses, rows, diverged=False) -> None:
        draw(lines, losses, rows, diverged)
        lengths.append((len(lines[0].x), len(lines[1].x), bench.progress.value))

    monkeypatch.setattr(bench, "_draw", watch)
    press(bench)
    assert lengths[:4] == [(1, 0, 0), (2, 1, 1), (3, 1, 2), (4, 2, 3)]


def test_the_same_run_again_keeps_its_first_record(bench: live.Bench, tmp_path: Path):
    press(bench)
    (path,) = (tmp_path / "runs" / "own").iterdir()
    first = path.read_bytes()
    assert path.name in press(bench)
    assert path.read_bytes() == first
    assert [trace.opacity for trace in bench.view.data] == [0.3] * 4 + [None] * 4
    bench.clear.click()
    assert bench.view.data == ()


def test_stop_stops_and_leaves_no_record(bench: live.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "EPOCHS", 1_000_000)
    bench.train.click()
    bench.train.click()  # does nothing
    while not (bench.view.data and bench.view.data[0].x):
        time.sleep(0.01)
    bench.clear.click()  # nor does this, for the curves are growing
    assert bench.view.data
    assert bench.train.disabled
    assert not bench.stop.disabled
    bench.stop.click()
    bench.running.join(60)
    assert bench.message.value == "Stopped. A run that is stopped leaves no record."
    assert not (tmp_path / "runs").exists()
    assert not bench.train.disabled
    assert len(bench.view.data) == 4


def test_divergence_is_said_and_crossed(bench: live.Bench):
    bench.controls["lr"].value, bench.controls["norm"].value = 10.0, "none"
    said = press(bench)
    assert "without at 10, seed 0" in said
    assert "<b>diverged</b> after " in said
    loss, _, _, cross = bench.view.data
    assert (cross.x[0], cross.y[0]) == (loss.x[-1], loss.y[-1])
    assert np.isfinite(cross.y[0])
    (record,) = [json.loads(path.read_text()) for path in Path("runs/own").iterdir()]
    assert record["status"].startswith("diverged@")


def test_errors_are_shown(bench: live.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_):
        raise RuntimeError("out of <memory>\nhere")

    with monkeypatch.context() as patch:
        patch.setattr(nets, "build", fail)
        assert "RuntimeError: out of &lt;memory&gt; here</span>" in press(bench)
    (tmp_path / "runs").write_text("in the way")
    said = press(bench)
    assert "</b> of the test images right" in said, "what it came to is not lost"
    assert "No record is kept: cannot write runs/own/" in said
    with pytest.raises(ConfigError, match="there is no depth 21; there are 8, 14, 20"):
        live.Bench(depth=21)


def test_without_cifar_10_it_says_so(bench: live.Bench, monkeypatch: pytest.MonkeyPatch):
    def load(config):
        if config.source == "cifar10":
            raise data.DataError("no CIFAR-10 <here>")
        return SMALL

    monkeypatch.setattr(data, "load", load)
    said = press(bench)
    assert "40 synthetic images (no CIFAR-10 &lt;here&gt;)" in said
    assert bench.run().data.source == "synthetic"


def test_images_of_unknown_origin_are_not_used(bench: live.Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    unknown = data.synthetic(40, 20)
    monkeypatch.setattr(data, "load", lambda config: unknown if config.source == "cifar10" else SMALL)
    bench._images()
    assert bench.dataset is SMALL
    assert "no record is made of images that are not CIFAR-10" in bench.why


def test_a_run_with_the_images_as_published_is_a_sound_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "TRAIN", 20)
    monkeypatch.setattr(live, "TEST", 10)
    monkeypatch.setattr(live, "EPOCHS", 1)
    monkeypatch.setenv("BNLIB_DATA", str(tmp_path / "nowhere"))
    bench = live.Bench(folder=tmp_path / "runs", depth=14, norm="group", seed=3)
    said = press(bench)
    assert "nowhere does not exist" in said
    (path,) = (tmp_path / "runs" / "own").iterdir()
    record = records.load(path)
    assert (record.status, record.data["variant"], record.config.model.depth, record.config.seed) == ("completed", "synthetic", 14, 3)


def test_in_the_built_book_it_is_one_line(monkeypatch: pytest.MonkeyPatch):
    own = live.TrainYourOwn()
    monkeypatch.setenv("BNLIB_DISPLAY", "static")
    assert own._repr_mimebundle_() == {"text/markdown": "*It takes a running notebook: `make lab` opens this chapter as one.*"}
    assert "bench" not in vars(own), "no widget is made"


def test_its_runs_are_ignored_by_git():
    assert "runs/" in (ROOT / ".gitignore").read_text().splitlines()


# In a kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[BlockingKernelClient]:
    manager, client = start_new_kernel(cwd=str(tmp_path), kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(client: BlockingKernelClient, code: str) -> list[dict]:
    """The messages of a cell; whatever it writes to stderr or raises fails the test."""
    messages: list[dict] = []
    client.execute_interactive(code, timeout=60, output_hook=messages.append)
    bad = [m["content"] for m in messages if m["msg_type"] == "error" or m["content"].get("name") == "stderr"]
    assert not bad, bad
    return messages


def workbench(client: BlockingKernelClient, epochs: int) -> Callable[[], None]:
    """Show one on a few images; returns what presses Train."""
    shown = execute(
        client,
        "from bnlib import data\n"
        "from bnlib.explore import live\n"
        "live.TRAIN, live.TEST, live.BATCH, live.REFRESH = 60, 10, 10, 0.0\n"
        f"live.EPOCHS = {epochs}\n"
        "data.Dataset.require_known = lambda self: None\n"
        "images = data.synthetic(60, 10)\n"
        "data.load = lambda config: images\n"
        "own = live.TrainYourOwn()\n"
        "own",
    )
    bundle = next(m["content"]["data"] for m in shown if m["msg_type"] == "execute_result")
    assert "application/vnd.jupyter.widget-view+json" in bundle
    opened = {m["content"]["comm_id"]: m["content"]["data"]["state"] for m in shown if m["msg_type"] == "comm_open"}
    button = next(id for id, state in opened.items() if state.get("description") == "Train")
    click = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
    return lambda: client.shell_channel.send(client.session.msg("comm_msg", click))


def told(client: BlockingKernelClient, last: str) -> list[int | str]:
    """Where the bar stands and what is said, as the page is told of it, up to a text that has `last` in it."""
    seen: list[int | str] = []
    deadline = time.monotonic() + 60
    while not (seen and last in str(seen[-1])):
        assert time.monotonic() < deadline, seen
        message = client.get_iopub_msg(timeout=60)
        state = message["content"]["data"].get("state", {}) if message["msg_type"] == "comm_msg" else {}
        seen += [state["value"]] if isinstance(state.get("value"), int | str) else []
    return seen


def test_in_a_kernel_the_page_is_told_while_it_trains(kernel: BlockingKernelClient, tmp_path: Path):
    press = workbench(kernel, epochs=5)
    press()
    seen = [value for value in told(kernel, "test images right") if isinstance(value, int)]
    assert len(seen) > 20, "the bar moves while the cell is long done"
    assert seen == sorted(seen)
    assert seen[-1] == 30
    assert len(list((tmp_path / "runs" / "own").iterdir())) == 1


def test_an_interrupt_stops_a_run_and_the_next_comes_to_its_end(kernel: BlockingKernelClient, tmp_path: Path):
    workbench(kernel, epochs=1_000_000)()
    told(kernel, "update 3 of")
    kernel.parent.interrupt_kernel()
    assert told(kernel, "Stopped")[-1] == "Stopped. A run that is stopped leaves no record."
    assert list(tmp_path.iterdir()) == []
    workbench(kernel, epochs=1)()
    told(kernel, "test images right")
    kernel.parent.interrupt_kernel()  # of nothing
    assert len(list((tmp_path / "runs" / "own").iterdir())) == 1
    execute(kernel, "own.bench.running.join(); assert not live._at_work")


CELL = """
from bnlib import data, train
from bnlib.explore import progress as module
from bnlib.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from bnlib.explore import Progress

module.REFRESH = 0.0
images = data.synthetic(20, 1)
setting = TrainConfig(lr=0.1, steps=STEPS, batch=10, schedule="constant")
run = RunConfig("try", 0, ModelConfig(depth=8), DataConfig("synthetic", 20, 1), train=setting)
with Progress() as progress:
    print(train.train(run, images, [progress]).status)
"""


def test_a_cell_that_trains_has_a_bar_that_goes_when_it_is_done(kernel: BlockingKernelClient):
    messages = execute(kernel, CELL.replace("STEPS", "3"))
    shown = [m["content"]["data"]["text/html"] for m in messages if m["msg_type"] in ("display_data", "update_display_data")]
    bars = [f'<label><progress value="{k}" max="3"></progress> update {k} of 3</label>' for k in (1, 2, 3)]
    assert shown == ["", *bars, ""]
    assert [m["content"]["text"] for m in messages if m["msg_type"] == "stream"] == ["completed\n"]


def test_an_interrupt_of_such_a_cell_is_told_in_one_line(kernel: BlockingKernelClient):
    messages: list[dict] = []

    def interrupt_at_the_third(message: dict) -> None:
        messages.append(message)
        if message["msg_type"] == "update_display_data" and "update 3 of" in str(message["content"]):
            kernel.parent.interrupt_kernel()

    reply = kernel.execute_interactive(CELL.replace("STEPS", "1_000_000"), timeout=60, output_hook=interrupt_at_the_third)
    assert reply["content"]["ename"] == "Interrupted"
    (error,) = [m["content"] for m in messages if m["msg_type"] == "error"]
    (line,) = error["traceback"]
    assert re.fullmatch(r"Interrupted after update \d+ of 1000000; nothing is kept of this run\.", line)
    assert [m for m in messages if m["msg_type"] == "update_display_data"][-1]["content"]["data"]["text/html"] == ""
    execute(kernel, CELL.replace("STEPS", "2"))


def test_outside_a_notebook_and_in_the_built_book_there_is_no_bar(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    with progress.Progress() as bar:
        train.train(live_run(), SMALL, [bar])
    monkeypatch.setattr(progress, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setenv("BNLIB_DISPLAY", "static")
    with progress.Progress() as bar:
        train.train(live_run(), SMALL, [bar])
    assert capsys.readouterr() == ("", "")
    with pytest.raises(progress.Interrupted, match="before the first update; nothing is kept"), progress.Progress():
        raise KeyboardInterrupt
    with pytest.raises(ConfigError, match="as it was"), progress.Progress():
        raise ConfigError("as it was")


def live_run() -> RunConfig:
    setting = TrainConfig(lr=0.1, steps=2, batch=20, schedule="constant")
    return RunConfig("try", 0, ModelConfig(depth=8), DataConfig("synthetic", 40, 20), train=setting)


def test_the_chapter_has_it():
    chapter = nbformat.read(ROOT / "book" / "learning-rates.ipynb", as_version=4)
    assert any(cell.source == "live.TrainYourOwn()" for cell in chapter.cells)
