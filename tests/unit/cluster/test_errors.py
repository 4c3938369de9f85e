"""The family of errors: one can be caught by what it is about."""

from __future__ import annotations

import pytest

from copyd.cluster import (
    Cluster,
    ClusterError,
    ClusterInitializationError,
    ClusterNotRunningError,
    ClusterStartupError,
    ClusterTimeoutError,
    InitDBError,
    Installation,
    InstallationNotFoundError,
)
from copyd.errors import CopydError


@pytest.mark.parametrize(
    ("error", "parent"),
    [
        (ClusterError, CopydError),
        (ClusterInitializationError, ClusterError),
        (InitDBError, ClusterInitializationError),
        (ClusterStartupError, ClusterError),
        (ClusterNotRunningError, ClusterError),
        (ClusterTimeoutError, ClusterError),
        (InstallationNotFoundError, ClusterError),
    ],
)
def test_errors_form_a_family(error: type[Exception], parent: type[Exception]) -> None:
    assert issubclass(error, parent)


def test_a_relative_data_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="must be an absolute path"):
        Cluster(Installation({"version": "18"}), "pg_data")
