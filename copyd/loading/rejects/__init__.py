"""Reject files: rows refused by a destination, kept only if the run committed.

``<root>/<transfer>/<destination>/<run>/`` has three files for each table: ``.dat`` (the rows, ready for
COPY), ``.log`` (the server's messages) and ``.jsonl`` (a record for each row). The folder's name ends
in ``.pending`` until the COMMIT is certain.
"""

from copyd.loading.rejects.folders import prepare_root
from copyd.loading.rejects.lines import RejectRecord, harmless
from copyd.loading.rejects.manifest import CommitOutcome, LoadedTable, Manifest
from copyd.loading.rejects.reader import KeptRow, KeptTable, Standing, kept, rows
from copyd.loading.rejects.resolution import Resolution, prune, resolve
from copyd.loading.rejects.writer import RejectFiles, RejectsNotKeptError
