"""The oldest versions that bnlib allows, and every Python it allows, in environments of their own: `make test-compat`.

    .compat/oldest    Python 3.11, or 3.12: each dependency of pyproject.toml at its lower bound
    .compat/3.11 …    each Python that is found, with the versions of requirements.txt

In each, the library's tests and all chapters. Gigabytes are downloaded (old torch comes with CUDA), so this is no part of CI.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
PINS = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE))
TOOLS = (
    "pytest",
    "pytest-xdist",
    "hypothesis",
    "beartype",
    "mpmath",
    "playwright",
    "nbclient",
    "ipykernel",
    "submitit",
    "dask",
    "distributed",
)
OF_THE_BOOK = (  # need Jupyter Book, JupyterLab, a browser, or the tools of who works on bnlib
    "test_api",
    "test_book",
    "test_contributing",
    "test_explore_browser",
    "test_lab",
    "test_ledger",
    "test_package",
    "test_readers_browser",
)


def oldest() -> list[str]:
    """Every dependency at its lower bound, and what the tests need, at the versions of requirements.txt."""
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = [re.sub(r">=(\d+\.\d+)$", r"==\1.*", need).replace(">=", "==") for need in needs]
    return [*bounds, *(f"{tool}=={PINS[tool]}" for tool in TOOLS), "pyyaml", "nbformat"]


def python(version: str) -> str | None:
    """The interpreter of this version that runs, if there is one."""
    found = shutil.which(f"python{version}")
    command = [found or "", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    works = found and subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == version
    return found if works else None


def environment(name: str, interpreter: str, what: list[str]) -> Path:
    """An environment with `what` installed; one that is there is brought up to date."""
    folder = ROOT / ".compat" / name
    if not (folder / "bin" / "python").exists():
        subprocess.run([interpreter, "-m", "venv", "--clear", folder], check=True)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *what], cwd=ROOT, check=True)
    return folder / "bin" / "python"


def passes(name: str, command: Path) -> bool:
    """Whether the library's tests and all chapters pass there. Old packages may warn of their own ways."""
    tests = [path for path in sorted((ROOT / "tests").glob("test_*.py")) if path.stem not in OF_THE_BOOK]
    options = ["-q", "-n", "2", "--dist", "loadfile", "-m", "not gpu", "-W", "ignore::DeprecationWarning"]
    options += [
        "-o",
        "addopts=-ra --strict-markers",
    ]  # types are checked at run time by `make test`; the oldest jaxtyping's plugin comes too late
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    print(f"--- {name}", flush=True)
    subprocess.run([command, "-c", "import sys, torch, numpy; print(sys.version, torch.__version__, numpy.__version__)"], check=True)
    return subprocess.run([command, "-m", "pytest", *options, *tests], cwd=ROOT, env=env, check=False).returncode == 0


def main() -> int:
    found = {version: path for version in PYTHONS if (path := python(version))}
    for version in PYTHONS:
        print(f"Python {version}: {found.get(version, 'not found')}")
    results = {}
    if low := found.get("3.11") or found.get("3.12"):  # the oldest versions have no wheels for 3.13
        results["oldest"] = passes("oldest", environment("oldest", low, [*oldest(), "-e", "."]))
    for version, path in found.items():
        results[version] = passes(version, environment(version, path, ["-r", "requirements.txt"]))
    for name, good in results.items():
        print(f"{name}: {'passed' if good else 'FAILED'}")
    return 0 if results and all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
