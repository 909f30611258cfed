"""The records of runs: one file each, and a folder of them."""

from bnlib.records.folder import INSTALLED, MAX_RESULTS, NoRecord, find, own, results_dir, select, settings, typed, verify
from bnlib.records.record import MAX_RECORD, NUMERICS, SCHEMA, UNFINISHED, Record, RecordError, clear, load, new, path_of, place, write

__all__ = [
    "INSTALLED",
    "MAX_RECORD",
    "MAX_RESULTS",
    "NUMERICS",
    "SCHEMA",
    "UNFINISHED",
    "NoRecord",
    "Record",
    "RecordError",
    "clear",
    "find",
    "load",
    "new",
    "own",
    "path_of",
    "place",
    "results_dir",
    "select",
    "settings",
    "typed",
    "verify",
    "write",
]
