"""Reject files: rows that a destination refused, kept exactly where their run committed.

``<root>/<transfer>/<destination>/<run>/`` holds for each table a ``.dat`` (the rows, as COPY takes
them), a ``.log`` (the server's messages) and a ``.jsonl`` (a record for each row). Until the COMMIT
is certain the folder's name ends in ``.pending``.
"""

from copyd.loading.rejects.folders import prepare_root
from copyd.loading.rejects.lines import RejectRecord, harmless
from copyd.loading.rejects.manifest import CommitOutcome, LoadedTable, Manifest
from copyd.loading.rejects.reader import KeptRow, KeptTable, Standing, kept, rows
from copyd.loading.rejects.resolution import Resolution, prune, resolve
from copyd.loading.rejects.writer import RejectFiles, RejectsNotKeptError
