"""A run in progress as one file: written atomically, checked on load, and read without ever running what is in it.

The first line names the format and the SHA-256 of the rest, which is what `torch.save` wrote.
"""

import hashlib
import io
import os
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bnlib.config import ConfigError, RunConfig
from bnlib.train.loop import Trainer

_FORMAT = "bnlib checkpoint 1"
_KEYS = {"about", "machines", "state"}


class CheckpointError(ValueError):
    """A checkpoint that is damaged or another run's. The message names the file and the way out."""


class Checkpoint:
    """A callback for `train` that saves the run at most every `every` seconds.

    `about` says what the run's numbers depend on beside its settings, `machines` what hardware it has seen so far.
    """

    def __init__(self, path: Path, about: dict[str, str], machines: Sequence[str] = (), every: float = 60.0) -> None:
        self.path, self.about, self.machines, self.every = path, about, list(machines), every
        self.saved = time.monotonic()

    def __call__(self, trainer: Trainer) -> None:
        """Save, if it is time."""
        if trainer.step < trainer.steps and time.monotonic() - self.saved >= self.every:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save now; what was saved before stays until this is complete. Raises OSError where the file cannot be written."""
        text = io.BytesIO()
        torch.save({"about": self.about, "machines": self.machines, "state": trainer.state_dict()}, text)
        part = self.path.with_name(self.path.name + ".tmp")
        try:
            with part.open("wb") as f:
                f.write(_header(text.getbuffer()))
                f.write(text.getbuffer())
                f.flush()
                os.fsync(f.fileno())
            part.replace(self.path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        self.saved = time.monotonic()


def load(path: Path, run: RunConfig, about: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The Trainer's state and the hardware it has seen. Raises CheckpointError, where it is not this run's `about` included."""
    content = read(path)
    made = content["about"]
    if RunConfig.from_dict(content["state"]["run"]) != run:
        raise CheckpointError(f"{path}: it is another run's than {run.run_id}'s; remove it to begin that run anew")
    for key in sorted(set(made) | set(about)):
        if made.get(key) != about.get(key):
            was, now = (str(side.get(key))[:12] for side in (made, about))
            raise CheckpointError(f"{path}: saved with {key} {was}, now {now}; remove it to begin that run anew")
    return content["state"], content["machines"]


def read(path: Path) -> dict[str, Any]:
    """What was saved, as `about`, `machines` and `state`. Raises CheckpointError."""
    try:
        header, _, text = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    if header + b"\n" != _header(text):
        raise CheckpointError(f"{path}: truncated or damaged; remove it to begin that run anew")
    try:
        content = torch.load(io.BytesIO(text), map_location="cpu", weights_only=True)
        if set(content) != _KEYS:
            raise ValueError(content.keys())
        RunConfig.from_dict(content["state"]["run"])
    except (AttributeError, EOFError, KeyError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError, ConfigError):
        raise CheckpointError(f"{path}: not a run in progress; remove it to begin that run anew") from None
    saved: dict[str, Any] = content
    return saved


def _header(text: bytes | memoryview) -> bytes:
    return f"{_FORMAT} {hashlib.sha256(text).hexdigest()}\n".encode()
