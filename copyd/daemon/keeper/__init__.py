"""Managed clusters: a keeper for each, whose thread creates, starts, configures and stops the server."""

from copyd.daemon.keeper.decision import Intervals
from copyd.daemon.keeper.keepers import Keepers
from copyd.daemon.keeper.records import Files, Folders
