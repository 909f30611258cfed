"""With what a number was made, and the line that says so under each figure."""

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

TRAINING = ("config", "data", "files", "nets", "train")  # modules and packages whose text decides what a training comes to
NUMBERS = (*TRAINING, "matrices", "probes", "studies")  # and any measured number


@cache
def sha256(names: tuple[str, ...]) -> str:
    """A hash of these modules and packages of bnlib."""
    package, digest = Path(__file__).parent, hashlib.sha256()
    for name in names:
        for path in sorted((package / name).rglob("*.py")) or [package / f"{name}.py"]:
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def code() -> dict[str, Any]:
    """The commit, whether the tree differs from it, and a hash of the modules that decide the numbers."""
    package = Path(__file__).parent

    def git(*args: str) -> str | None:
        done = subprocess.run(["git", "-C", package, *args], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        held = git("ls-files", "--error-unmatch", "config.py") is not None  # else the repository of something else lies above
        commit, changes = git("rev-parse", "HEAD") if held else None, git("status", "--porcelain", "--", ".")
    except OSError:  # no git on this machine
        commit = changes = None
    return {"commit": commit or "unknown", "dirty": commit is None or bool(changes), "numbers_sha256": sha256(NUMBERS)}


def env() -> dict[str, Any]:
    """Versions, precision and threads: the software a number depends on."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy")},
        "cuda": torch.version.cuda,
        "precision": "networks as configured, fp32 if not; matrices fp64",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
    }


@cache
def hardware(device: str = "cpu") -> dict[str, Any]:
    """The model of the processor that `device` names, and the number of cores; nothing that names the machine."""
    if torch.device(device).type == "cuda":
        return {"name": torch.cuda.get_device_name(device), "cores": os.cpu_count()}
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return {"name": names[0].strip() if names else platform.machine(), "cores": os.cpu_count()}
