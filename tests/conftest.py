"""What every test may ask for: a PostgreSQL installation, servers, fresh databases, a fan-out."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from copyd.cluster import Installation
from tests.support.configured_fanout import ConfiguredFanout
from tests.support.fanout import REPLICAS, SOURCE, Fanout
from tests.support.servers import Server, private_folder, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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


@pytest.fixture(scope="session")
def quiet_server(installation: Installation) -> Iterator[Server]:
    """An open transaction of autovacuum would hold back the horizon of a snapshot."""
    with running_server(installation, autovacuum="off") as running:
        yield running


@pytest.fixture(scope="session")
def databases(quiet_server: Server) -> Iterator[Mapping[str, str]]:
    """One for the source and each replica; `Fanout.create` empties those that it uses."""
    with ExitStack() as stack:
        names = (SOURCE, *REPLICAS)
        yield {name: stack.enter_context(quiet_server.database()) for name in names}


@pytest.fixture
def fanout(quiet_server: Server, databases: Mapping[str, str]) -> Iterator[Fanout]:
    """Nothing is in it before `Fanout.create`."""
    with ExitStack() as stack:
        yield Fanout(quiet_server, stack, databases)


@pytest.fixture
def configured(
    quiet_server: Server, databases: Mapping[str, str], tmp_path: Path
) -> Iterator[ConfiguredFanout]:
    with ExitStack() as stack:
        file = tmp_path / "copyd.toml"
        yield ConfiguredFanout(quiet_server, stack, databases, file=file)


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
