"""What is measured of a network: at initialisation, along a step, and in training."""

from bnlib.probes.initialisation import BINS, Seen, at_initialisation, hill, powerlaw_fit, watch

__all__ = ["BINS", "Seen", "at_initialisation", "hill", "powerlaw_fit", "watch"]
