"""The source of a run, held under its locks, and what is read of it under one snapshot."""

from copyd.transfers.source.formats import ChosenFormat, choose_format
from copyd.transfers.source.readings import (
    EVERYTHING,
    Bounds,
    Reading,
    Scan,
    bound_query,
    conditions,
    copy_out,
    is_long,
    select,
    select_rows,
    watermark_queries,
)
from copyd.transfers.source.snapshot import EXPORTED, Snapshot
from copyd.transfers.source.source import SOURCE_SETTINGS, Source, hold, import_snapshot
from copyd.transfers.source.tables import describe_query, find, lock, reading_of
