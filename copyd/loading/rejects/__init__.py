"""Rows that a destination refused: kept in files of their own, exactly where their run committed.

``<root>/<transfer>/<destination>/<run>/`` holds for each table a ``.dat`` (the rows, as COPY takes
them), a ``.log`` (what the server said) and a ``.jsonl`` (facts, one object a row). Until the COMMIT
is certain the folder's name ends in ``.pending``.
"""

from copyd.loading.rejects.folders import UnsafeFolderError, prepare_root
from copyd.loading.rejects.lines import Facts, harmless
from copyd.loading.rejects.reading import KeptRow, KeptTable, Standing, kept, rows
from copyd.loading.rejects.sealing import Fate, LoadedTable, Seal
from copyd.loading.rejects.settling import Settled, prune, settle
from copyd.loading.rejects.writing import RejectFiles, RejectsNotKeptError

__all__ = [
    "Facts",
    "Fate",
    "KeptRow",
    "KeptTable",
    "LoadedTable",
    "RejectFiles",
    "RejectsNotKeptError",
    "Seal",
    "Settled",
    "Standing",
    "UnsafeFolderError",
    "harmless",
    "kept",
    "prepare_root",
    "prune",
    "rows",
    "settle",
]
