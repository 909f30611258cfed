"""bnlib away from its checkout: as a wheel in an environment of its own, and as a chapter that was downloaded by itself."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import yaml
from chapters import ROOT

sys.path.append(str(ROOT / "book" / "_ext"))
import portable

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN_ALL = """
import sys, nbformat
from nbclient import NotebookClient
for name in sys.argv[1:]:
    NotebookClient(nbformat.read(name, as_version=4), timeout=300).execute()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portable.wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@dataclass
class Bare:
    """An environment that has all that bnlib needs, but not bnlib; its commands run in a folder with a name to stumble over."""

    folder: Path
    bin: Path
    env: dict[str, str]

    def __call__(self, command: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.bin / command, *args], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    folder, env = tmp_path / "Ünï côde", tmp_path / "env"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    (site,) = env.glob("lib/python3*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # its own .pth files do not count
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("BNLIB_", "PYTHONPATH", "OMP_", "JUPYTER_", "VIRTUAL_ENV"))}
    environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment |= {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}
    return Bare(folder, env / "bin", environment)


def test_the_wheel_holds_the_library_and_its_records(wheel: Path):
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [path for folder in ("bnlib", "results") for path in (ROOT / folder).rglob("*.*") if path.suffix in (".py", ".json", ".typed")]
    wanted = {path.relative_to(ROOT).as_posix() for path in files if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)}
    assert {name if name.startswith("bnlib") else f"bnlib/{name}" for name in wanted} <= held
    assert not [name for name in held if "unfinished" in name or not name.startswith("bnlib")]


def test_an_installed_wheel_finds_its_records_and_leaves_them_alone(wheel: Path, bare: Bare):
    assert bare("python", "-c", "import bnlib").returncode == 1, "not there before"
    assert bare("python", "-m", "pip", "install", wheel).returncode == 0
    where = bare("python", "-c", "import bnlib; print(bnlib.__file__)").stdout
    assert str(bare.bin.parent) in where
    count = len(list((ROOT / "results").glob("*/*.json")))
    checked = bare("bnlib", "verify", "--json")
    assert json.loads(checked.stdout) == {"records": count, "problems": []}
    rows = json.loads(bare("python", "-m", "bnlib", "status", "--json").stdout)
    assert sum(row["planned"] - row["missing"] for row in rows) == count
    refused = bare("bnlib", "sweep", "spectra")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "bnlib export results" in refused.stderr
    assert bare("bnlib", "export", "results").returncode == 0
    one = next((bare.folder / "results" / "spectra").glob("*.json"))
    one.unlink()
    again = bare("bnlib", "sweep", "spectra", "--json")
    assert again.returncode == 0, again.stderr
    assert {run: came["outcome"] for run, came in json.loads(again.stdout)["runs"].items()} == {one.stem: "made"}
    assert json.loads(one.read_text())["code"]["commit"] == "unknown", "whatever repository lies above"


def test_downloaded_chapters_run_by_themselves(wheel: Path, bare: Bare):
    """Live, with real kernels, in a folder that holds nothing else: the first cell of the first one installs bnlib."""
    pages = "setting", "activations"
    for page in pages:
        portable.rewrite(ROOT / "book" / f"{page}.ipynb", bare.folder / f"{page}.ipynb", wheel.name, "")
    lost = bare("python", "-c", RUN_ALL, "setting.ipynb")
    assert f"bnlib is missing: save {wheel.name}, linked at the foot" in lost.stderr
    (bare.folder / wheel.name).write_bytes(wheel.read_bytes())
    done = bare("python", "-c", RUN_ALL, *(f"{page}.ipynb" for page in pages))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in bare.folder.iterdir()) == sorted([*(f"{page}.ipynb" for page in pages), wheel.name])


def test_what_is_installed_where_bnlib_is_missing():
    repo = {"url": "https://github.com/owner/name", "branch": "main"}
    assert portable.source("b.whl", "https://owner.github.io/name/", repo) == "https://owner.github.io/name/_static/b.whl"
    assert portable.source("b.whl", "", repo) == "bnlib @ git+https://github.com/owner/name@main"
    assert portable.source("", "https://owner.github.io/name/", repo) == "bnlib @ git+https://github.com/owner/name@main"
    assert portable.source("b.whl", "", {}) == ""


def test_the_repositorys_address_has_one_place():
    """After it is changed, `python book/_ext/portable.py` brings the committed notebooks up to date."""
    assert portable.committed(ROOT) == []
    address = portable.repository(ROOT).get("url")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    texts = {name: (ROOT / name).read_text() for name in files if Path(name).suffix in (".py", ".yml", ".md", ".toml", ".cff", ".txt")}
    assert [name for name, text in texts.items() if address and address in text] == ["_config.yml"] * bool(address)


def test_a_first_cell_comes_and_goes(tmp_path: Path):
    (tmp_path / "book").mkdir()
    path = tmp_path / "book" / "setting.ipynb"
    before = (ROOT / "book" / "setting.ipynb").read_text()
    path.write_text(before)
    (tmp_path / "_config.yml").write_text("repository: {url: https://github.com/owner/name/}")
    assert portable.committed(tmp_path) == [path]
    portable.rewrite(path, path, "", portable.source("", "", portable.repository(tmp_path)))
    assert portable.committed(tmp_path) == []
    first = nbformat.read(path, as_version=4).cells[0]
    assert "bnlib @ git+https://github.com/owner/name@main" in first.source
    assert first.metadata.tags == ["remove-cell"]
    compile(first.source, "first cell", "exec")
    (tmp_path / "_config.yml").write_text("title: none")
    portable.rewrite(path, path, "", portable.source("", "", portable.repository(tmp_path)))
    assert path.read_text() == before


def test_bnlib_replaces_nothing_that_a_hosted_notebook_has():
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", need) for need in PROJECT["dependencies"])
    assert re.fullmatch(r">=3\.\d+", PROJECT["requires-python"])


def test_one_version_is_cited_packaged_and_told_of():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+?),? ", (ROOT / "book" / "changes.md").read_text(), flags=re.MULTILINE)
    assert citation["version"] == PROJECT["version"] == newest[1]
    assert citation["license"] == PROJECT["license"]


def test_the_citation_is_of_schema_1_2_0():
    """What the schema requires, and the keys that it knows, of those used here (citation-file-format, schema-guide.md)."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    known = {"cff-version", "message", "title", "type", "version", "license", "authors", "references", "repository-code", "date-released"}
    assert {"cff-version", "message", "title", "authors"} <= set(citation) <= known
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    for paper in (citation, *citation["references"]):
        assert {"authors", "title", "type"} <= set(paper)
        assert all(set(one) in ({"name"}, {"family-names", "given-names"}) for one in paper["authors"])
    for paper in citation["references"]:
        assert paper["type"] == "conference-paper"
        assert all(type(paper[key]) is int for key in ("volume", "start", "end", "year"))
        assert all(set(one) == {"type", "value"} and one["type"] in ("doi", "url", "swh", "other") for one in paper["identifiers"])


def requirements(path: Path) -> list[str]:
    """The lines of a requirements file, without comments."""
    return [line for text in path.read_text().splitlines() if (line := text.partition("#")[0].strip())]


class TestBinder:
    """repo2docker's rules. It reads `.binder/` alone, and there requirements.txt and runtime.txt; pip runs at the root."""

    folder = ROOT / ".binder"

    def test_it_is_the_one_folder_that_is_read(self):
        assert not (ROOT / "binder").exists()  # it may not stand beside .binder
        assert {path.name for path in self.folder.iterdir()} == {"requirements.txt", "runtime.txt"}  # no file of another builder

    def test_python_is_one_that_bnlib_allows(self):
        major, minor = re.fullmatch(r"python-(\d+)\.(\d+)\n?", (self.folder / "runtime.txt").read_text()).groups()
        assert (int(major), int(minor)) in {(3, 11), (3, 12)}

    def test_the_versions_are_those_of_the_book(self):
        pinned = dict(line.split("==") for line in requirements(ROOT / "requirements.txt") if "==" in line)
        here = dict(line.split("==") for line in requirements(self.folder / "requirements.txt") if "==" in line)
        assert here == {name: pinned[name] for name in here}
        needed = {re.split(">=", need)[0] for need in PROJECT["dependencies"]}
        assert needed <= set(here)

    def test_bnlib_is_installed_from_the_checkout_and_torch_without_cuda(self):
        lines = requirements(self.folder / "requirements.txt")
        assert lines[0] == "--extra-index-url https://download.pytorch.org/whl/cpu"
        assert lines[-1] == "-e ."  # a local line makes repo2docker copy the whole repository before it installs
        assert all("==" in line for line in lines[1:-1])
