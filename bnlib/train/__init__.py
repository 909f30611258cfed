"""Training by the paper's protocol: the loop, what a GPU needs of it, and its state on disk."""

from bnlib.train.loop import CHANCE, RISEN, WINDOW, Callback, Result, Stopped, Trainer, clipped, outcome, train, updates

__all__ = ["CHANCE", "RISEN", "WINDOW", "Callback", "Result", "Stopped", "Trainer", "clipped", "outcome", "train", "updates"]
