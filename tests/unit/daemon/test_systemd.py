"""What systemd is told, and from whom it comes."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from copyd.daemon.systemd import Notifier

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_abstract", [True, False])
def test_facts_are_sent_to_both_sorts_of_addresses(tmp_path: Path, is_abstract: bool) -> None:
    name = f"copyd-unit-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}" if is_abstract else name)
        Notifier(f"@{name}" if is_abstract else name).tell(READY=1, STATUS="all is well")
        assert listener.recv(1000) == b"READY=1\nSTATUS=all is well"


def test_nobody_is_told_where_nobody_listens(tmp_path: Path) -> None:
    Notifier().tell(READY=1)
    Notifier(str(tmp_path / "gone")).tell(READY=1)


def test_a_listener_that_does_not_read_does_not_hold_us(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        for _ in range(2000):
            Notifier(str(tmp_path / "notify")).tell(WATCHDOG=1)


def test_the_environment_is_taken_and_children_do_not_get_it() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "OTHER": "1"}
    assert Notifier.take(environ) == Notifier("/x", 3.0)
    assert environ == {"OTHER": "1"}
    assert Notifier.take({}) == Notifier()


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}
    assert Notifier.take(environ) == Notifier("/x")
