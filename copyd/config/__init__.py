"""The configuration file: read once, checked as a whole, frozen.

It knows neither servers nor copies; the command line makes transfers' own types from it.
"""

from copyd.config.load import load, runtime_directory
from copyd.config.model import (
    Breaker,
    Cluster,
    Config,
    Daemon,
    Destination,
    Http,
    Log,
    Reintroduce,
    Section,
    Server,
    TableOptions,
    Transfer,
)
from copyd.config.passwords import read_password
from copyd.config.problems import ConfigError, suggestion
from copyd.config.reference import markdown
from copyd.config.schema import json_schema
from copyd.config.values import zone_of
