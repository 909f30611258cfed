"""Runs that have no record yet, made: on this machine or a cluster, and moved from one to another."""

from bnlib.sweep.run import Listener, Summary, estimate, seconds, sweep

__all__ = ["Listener", "Summary", "estimate", "seconds", "sweep"]
