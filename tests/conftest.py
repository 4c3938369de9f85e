"""What every test may ask for: a PostgreSQL installation, a server, fresh databases."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from copyd.cluster import Installation
from tests.support.servers import Server, private_folder, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure() -> None:
    """Undo what a shell does to programs in its background: their children would ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def installation() -> Installation:
    """The best one here, or the one in COPYD_TEST_BINDIR (tests/matrix sets it)."""
    return Installation.find(os.environ.get("COPYD_TEST_BINDIR"))


@pytest.fixture(scope="session")
def server(installation: Installation) -> Iterator[Server]:
    """One server for all tests of a worker; it must not be stopped."""
    with running_server(installation) as running:
        yield running


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    with server.database() as name:
        yield name


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a server's account can pass through."""
    with private_folder() as path:
        yield path


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves descriptors or threads behind."""
    before = _held()
    yield
    assert _held() == before


def _held() -> tuple[int, int]:
    return sum(1 for _ in Path("/proc/self/fd").iterdir()), threading.active_count()
