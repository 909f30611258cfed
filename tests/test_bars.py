"""A terminal gets a bar for the sweep and one a run; a file or a pipe gets a line for each finished run."""

import io
import json
from pathlib import Path

import pytest
import toys
from rich.console import Console

from bnlib.sweep import Summary
from bnlib.sweep.bars import Bars, verdict
from bnlib.sweep.worker import Outcome, begun


def shown(tmp_path: Path, terminal: bool) -> str:
    """What a terminal or a file is sent while one run is at work and another ends."""
    out, study = io.StringIO(), toys.training(3)
    path = begun(study.runs[0], tmp_path, "progress")
    path.parent.mkdir(parents=True)
    with Bars(study, tmp_path, Console(file=out, force_terminal=terminal, width=140)) as bars:
        bars.moved(study.runs[:2], 3)
        path.write_text(json.dumps({"step": 3, "steps": 8, "images_per_second": 1234.5}))
        bars.moved(study.runs[:2], 3)
        bars.bars.refresh()
        bars.ended(study.runs[1], Outcome("made", "completed"))
        bars.ended(study.runs[2], Outcome("failed", "all is lost"))
        bars.moved(study.runs[:1], 1)
        bars.stopping()
    return out.getvalue()


def test_a_terminal_gets_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = shown(tmp_path, terminal=True)
    for part in ("toy", "seed=0", "seed=1", "3/8", "1,234 images/s", "2/3", "toy: saving"):
        assert part in text
    assert capsys.readouterr().out == ""


def test_a_file_gets_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert shown(tmp_path, terminal=False) == ""
    runs, said = toys.training(3).runs, capsys.readouterr()
    assert said.out == f"toy {runs[1].run_id} made: completed (seed=1)\n"
    assert said.err == f"bnlib: toy {runs[2].run_id} failed: all is lost\n"


def test_the_last_line_says_what_was_done_and_what_remains():
    kinds = ["made", "made", "failed", "busy", "stopped", "lost"]
    study = toys.training(7)
    summary = Summary(1, {run.run_id: Outcome(kind) for run, kind in zip(study.runs, kinds, strict=False)}, list(study.runs[2:6]), begun=2)
    assert verdict(study, summary) == (
        "toy: 1 records were there, 2 made, 1 failed, 1 lost with their worker, 1 at work in another sweep; "
        "4 remain, 2 of them begun: run the same command again to go on"
    )
