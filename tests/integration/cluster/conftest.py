"""Clusters for tests that start, stop and break their server: each test gets its own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from copyd.cluster import Cluster
from tests.support.servers import private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from copyd.cluster import Installation


@pytest.fixture(scope="session")
def template(installation: Installation) -> Iterator[Path]:
    """A data directory to copy: several times faster than another initdb."""
    with private_folder() as folder:
        cluster = Cluster(installation, folder / "data")
        cluster.init()
        cluster.settings.update(fsync=False, shared_buffers="16MB", max_connections=20)
        yield cluster.data_directory


@pytest.fixture
def copies(
    installation: Installation, template: Path, folder: Path
) -> Iterator[Callable[[str], Cluster]]:
    """Make stopped clusters by name; whatever still runs at the end is killed."""
    made: list[Cluster] = []

    def copy(name: str) -> Cluster:
        subprocess.run(["/bin/cp", "-a", template, folder / name], check=True)
        made.append(Cluster(installation, folder / name))
        return made[-1]

    yield copy
    for cluster in made:
        cluster.kill()
        cluster.wait_until_stopped()


@pytest.fixture
def cluster(copies: Callable[[str], Cluster]) -> Cluster:
    """An initialized, stopped cluster."""
    return copies("data")
