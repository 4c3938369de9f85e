"""PostgreSQL installations, clusters and their settings; no COPY, no logs, no counters.

Seed page: "Cluster Management".
"""

from copyd.cluster.cluster import Cluster
from copyd.cluster.configfile import as_text
from copyd.cluster.errors import (
    ClusterError,
    ClusterInitializationError,
    ClusterNotRunningError,
    ClusterStartupError,
    ClusterTimeoutError,
    InitDBError,
    InstallationNotFoundError,
)
from copyd.cluster.initdb import superuser_of
from copyd.cluster.installation import Installation, VersionInfo, pg_config_dictionary
from copyd.cluster.lifecycle import Holder, PidFile, State
from copyd.cluster.poll import wait_for
from copyd.cluster.postmaster import Postmaster
from copyd.cluster.settings import (
    Entry,
    OverriddenSettingWarning,
    Settings,
    read_file,
    replace_file,
)
from copyd.cluster.sockets import SocketDirectory

__all__ = [
    "Cluster",
    "ClusterError",
    "ClusterInitializationError",
    "ClusterNotRunningError",
    "ClusterStartupError",
    "ClusterTimeoutError",
    "Entry",
    "Holder",
    "InitDBError",
    "Installation",
    "InstallationNotFoundError",
    "OverriddenSettingWarning",
    "PidFile",
    "Postmaster",
    "Settings",
    "SocketDirectory",
    "State",
    "VersionInfo",
    "as_text",
    "pg_config_dictionary",
    "read_file",
    "replace_file",
    "superuser_of",
    "wait_for",
]
