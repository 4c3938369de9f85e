"""PostgreSQL installations, clusters and their settings: a cluster without any copy.

Seed page: "Cluster Management". Nothing here logs or counts; it returns or raises.
"""

from copyd.cluster.cluster import Cluster
from copyd.cluster.errors import (
    ClusterError,
    ClusterInitializationError,
    ClusterNotRunningError,
    ClusterStartupError,
    ClusterTimeoutError,
    InitDBError,
    InstallationNotFoundError,
)
from copyd.cluster.installation import Installation, VersionInfo, pg_config_dictionary
from copyd.cluster.lifecycle import State
from copyd.cluster.settings import Entry, OverriddenSettingWarning, Settings

__all__ = [
    "Cluster",
    "ClusterError",
    "ClusterInitializationError",
    "ClusterNotRunningError",
    "ClusterStartupError",
    "ClusterTimeoutError",
    "Entry",
    "InitDBError",
    "Installation",
    "InstallationNotFoundError",
    "OverriddenSettingWarning",
    "Settings",
    "State",
    "VersionInfo",
    "pg_config_dictionary",
]
