"""What CONTRIBUTING.md says of adding a normaliser and a probe, done to a copy of bnlib exactly as it is written there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bnlib import studies

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
DIFFS = re.findall(r"```diff\n(.*?)```", TEXT, re.DOTALL)

USE = """
import json
import numpy as np
import torch
import bnlib
from bnlib import data, nets, probes, records, studies, train
from bnlib.config import DataConfig, ModelConfig, ProbeConfig, RunConfig, TrainConfig
from bnlib.figures.style import SERIES
from pathlib import Path

assert Path(bnlib.__file__).is_relative_to(Path.cwd()), bnlib.__file__
images = data.load(DataConfig("synthetic"))

# The normaliser: its formula, its place, equal kernels beside another one, training.
net, other = (nets.build(ModelConfig(depth=8, norm=norm), 3) for norm in ("rms", "layer"))
found = [module for module in net.modules() if type(module) is nets.RootMeanSquare]
assert len(found) == len(net.convolutions()) + len(net.projections())
x = torch.randn(4, 16, 5, 5) + 3
ones = found[0](x).square().mean((1, 2, 3))
assert torch.allclose(ones, torch.ones(4), atol=1e-4)
assert all(torch.equal(a.weight, b.weight) for a, b in zip(net.layers().values(), other.layers().values()))
assert all(conv.bias is None for conv in net.convolutions().values())
setting = TrainConfig(lr=0.03, steps=12, batch=32, schedule="constant")
run = RunConfig("try", 0, ModelConfig(depth=8, norm="rms"), DataConfig("synthetic", 64, 8), train=setting)
losses = train.train(run, images).measured["step_loss"]
assert losses[-1] < losses[0]
assert SERIES["rms"].label == "RMS norm"

# The probe: its record, and its number against another way to it.
study = studies.get("rank")
run = RunConfig("rank", 1, ModelConfig(depth=8, norm="rms"), DataConfig("synthetic"), ProbeConfig(batch=16))
record = records.load(studies.measure(study, run, images, Path("results")))
net, seen = nets.build(run.model, 1), []
net.linear.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().double().numpy()))
net(data.batch(images, 1, 16)[0])
gram = np.linalg.eigvalsh(seen[0] @ seen[0].T)
assert np.isclose(record.measured["feature_rank"], gram.sum() / gram.max(), rtol=1e-4)
assert 1 <= record.measured["feature_rank"] <= 16
assert {run.model.norm for run in study.runs} == {run.model.norm for run in studies.get("init").runs} >= {"rms", "batch"}
print(json.dumps({name: [run.run_id for run in study.runs] for name, study in studies.STUDIES.items()}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of bnlib with all the changes that the page shows."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "bnlib", folder / "bnlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "results").mkdir()
    env = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(["git", "apply", "-"], input="".join(DIFFS), cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the lines in CONTRIBUTING.md no longer fit bnlib: {done.stderr}"
    return folder


def test_it_takes_less_than_thirty_lines():
    assert len(DIFFS) == 2
    assert len(re.findall(r"^\+(?!\+\+)", "".join(DIFFS), re.MULTILINE)) < 30


def test_the_normaliser_and_the_probe_work_and_rename_no_run(copy: Path):
    env = {key: value for key, value in os.environ.items() if key != "BNLIB_RESULTS"} | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", USE], cwd=copy, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ids = json.loads(done.stdout)
    for name, study in studies.STUDIES.items():
        assert {run.run_id for run in study.runs} <= set(ids[name])


def test_the_lines_are_as_the_house_writes_them(copy: Path):
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *command, "bnlib"], cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
