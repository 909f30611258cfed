"""The command line, as a user meets it: the ways that succeed in a process of their own, all others in this one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bnlib import __main__, data, records


def bnlib(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BNLIB_")} | {"COLUMNS": "200"} | env
    return subprocess.run([sys.executable, "-m", "bnlib", *args], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Here:
    """The same in this process: exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BNLIB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bnlib", *args])
        with pytest.raises(SystemExit) as caught:
            __main__.main()
        return int(caught.value.code or 0), *capfd.readouterr()

    return run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


ONE = ("spectra", "--only", "N=50", "--only", "M=2", "--only", "seed=0")


def test_help_everywhere(here: Here):
    commands = ("data", "sweep", "status", "verify", "export", "import")
    _, listed, _ = here("--help")
    assert all(command in listed for command in commands)
    for command in commands:
        status, said, _ = here(command, "--help")
        assert status == 0
        assert "Usage" in said


def test_sweep_then_verify_then_status(results: Path, here: Here):
    pick = ("sweep", *ONE, "--budget", "9m")
    assert here(*pick, "--dry-run")[1].count("\n") == 1
    done = bnlib(*pick, cwd=results.parent)
    (path,) = results.glob("spectra/*.json")
    assert done.stdout.splitlines() == [f"spectra {path.stem} made: completed ({path.stem})", "spectra: 0 records were there, 1 made"]
    assert (done.returncode, done.stderr) == (0, "")
    assert here(*pick) == (0, "spectra: 1 records were there, 0 made\n", "")
    assert json.loads(here("verify", "--json")[1]) == {"records": 1, "problems": []}
    rows = {row["study"]: row for row in json.loads(here("status", "--json")[1])}
    spectra = rows["spectra"]
    assert (spectra["completed"], spectra["planned"] - spectra["missing"]) == (1, 1)
    assert {"study", "planned", "completed", "diverged", "failed", "missing"} <= set(spectra)
    assert spectra["hours_left"] == pytest.approx(spectra["missing"] * records.load(path).time["seconds"] / 3600, abs=1e-3)
    assert rows["init"]["hours_left"] is None
    shown = here("status")[1]
    assert shown.splitlines()[0].split() == ["study", "planned", "completed", "diverged", "failed", "missing", "hours", "hours", "left"]
    assert f"{records.load(path).hardware['name']}: spectra\n" in shown


def test_import_says_what_is_wrong_and_fails(results: Path, here: Here):
    saved = results.parent / "stick" / "0123456789ab.ckpt"
    saved.parent.mkdir()
    saved.write_bytes(b"bnlib checkpoint 1")
    assert here("import", "stick") == (
        1,
        "0 files copied from stick, 0 were there, 1 refused\n",
        "stick/0123456789ab.ckpt: truncated or damaged; remove it to begin that run anew\n",
    )
    assert here("export", "copy") == (0, "0 files copied into copy, 0 were there, 0 refused\n", "")


def test_verify_says_what_is_wrong_and_fails(results: Path, here: Here):
    status, _, problems = here("sweep", *ONE)
    assert (status, problems) == (0, "")
    (path,) = results.rglob("*.json")
    path.write_text(path.read_text().replace("1", "2", 1))
    for command in ("verify", "status"):
        status, _, problems = here(command)
        assert status == 1
        assert path.name in problems


def test_every_report_comes_as_json(results: Path, here: Here):
    data.save(data.synthetic(40, 20), results.parent / "few.npz")
    images = json.loads(here("data", "--data", "few.npz", "--json")[1])
    assert images == {"variant": images["variant"], "train": 40, "test": 20, "fingerprint": images["fingerprint"]}
    missing = json.loads(here("sweep", *ONE, "--dry-run", "--json")[1])
    assert (missing["study"], len(missing["missing"])) == ("spectra", 1)
    run = missing["missing"][0]["run_id"]
    made = json.loads(here("sweep", *ONE, "--json")[1])
    assert made["runs"] == {run: {"outcome": "made", "text": "completed"}}
    assert (made["there"], made["remaining"], made["refused"]) == (0, [], None)
    assert json.loads(here("export", "copy", "--json")[1]) == {"copied": 1, "there": 0, "problems": []}
    assert json.loads(here("import", "copy", "--json")[1]) == {"copied": 0, "there": 1, "problems": []}


def test_the_shell_completes_studies(tmp_path: Path):
    asked = {"_BNLIB_COMPLETE": "complete_bash", "COMP_WORDS": "bnlib sweep spec", "COMP_CWORD": "2"}
    script = "import sys; sys.argv = ['bnlib']; from bnlib.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=os.environ | asked, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["spectra"]


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (("sweep", "nonsense"), 2, "there is no study 'nonsense'; there are init"),
        (("sweep", "init", "--only", "depth"), 2, "write it as key=value"),
        (("sweep", "init", "--only", "dpeth=20"), 2, "study init has no setting 'dpeth'"),
        (("sweep", "init", "--only", "depth=21"), 2, "no run with these settings"),
        (("sweep", "max-lr", "--only", "norm=btach"), 2, "it has norm: batch, none"),
        (("sweep", "bridge", "--only", "held=True"), 2, "it has held: false, true"),
        (("sweep", "init", "--executor", "slurm"), 2, "there is no executor 'slurm'; there are local, submitit, dask"),
        (("sweep", "init", "--address", "tcp://x"), 2, "the local executor has none"),
        (("sweep", "init", "--executor", "submitit"), 2, "say with --workers how many runs at a time"),
        (("sweep", "init", "--executor", "dask", "--address", "tcp://x", "--device", "cuda"), 2, "say with --workers how many runs"),
        (("sweep", "init", "--device", "tpu"), 2, "there is no device 'tpu'; there are cpu, cuda, auto"),
        (("sweep", "init", "--budget", "9"), 2, "write a time above zero with its unit, such as 90s, 9m or 1.5h"),
        (("sweep", "init", "--data", "nowhere"), 1, "nowhere does not exist"),
        (("sweep", "init", "--results", "nowhere"), 1, "there is no results folder nowhere"),
        (("export", "results/inside"), 1, "lies in the results themselves"),
        (("import", "nowhere"), 1, "there is no folder nowhere"),
        (("verify", "--results", "nowhere"), 1, "there is no results folder nowhere"),
        (("status", "--results", "nowhere"), 1, "there is no results folder nowhere"),
    ],
)
def test_what_a_user_gets_wrong_takes_one_line(results: Path, here: Here, args: tuple, status: int, message: str):
    code, _, said = here(*args)
    assert code == status
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert "Traceback" not in said
    assert [path.name for path in results.iterdir() if path.name != records.UNFINISHED] == []


def test_the_number_of_workers_is_checked(results: Path, here: Here):
    status, _, said = here("sweep", "init", "--workers", "0")
    assert status == 2
    assert "Invalid value for '--workers'" in said


def test_no_results_folder_gets_one_line(tmp_path: Path):
    done = bnlib("verify", cwd=tmp_path, BNLIB_RESULTS=str(tmp_path / "gone"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
