"""The configuration file: read once, checked as a whole, frozen.

Nothing here knows a server or a copy; the command line makes transfers' own types from it.
"""

from copyd.config.load import load
from copyd.config.model import (
    Breaker,
    Cluster,
    Config,
    Daemon,
    Destination,
    Http,
    Log,
    Reintroduce,
    Server,
    TableOptions,
    Transfer,
)
from copyd.config.problems import ConfigError
from copyd.config.schema import json_schema

__all__ = [
    "Breaker",
    "Cluster",
    "Config",
    "ConfigError",
    "Daemon",
    "Destination",
    "Http",
    "Log",
    "Reintroduce",
    "Server",
    "TableOptions",
    "Transfer",
    "json_schema",
    "load",
]
