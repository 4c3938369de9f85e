"""Managed clusters: made once, started, watched, configured, restarted, stopped or left.

Each has a keeper with a thread of its own; `Keepers` is all of them.
"""

from copyd.daemon.keeper.decision import Intervals
from copyd.daemon.keeper.keeper import Keeper
from copyd.daemon.keeper.keepers import Keepers
from copyd.daemon.keeper.records import Files, Folders

__all__ = ["Files", "Folders", "Intervals", "Keeper", "Keepers"]
