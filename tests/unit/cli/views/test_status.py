"""The screen of `copyd status`."""

from __future__ import annotations

import io

from rich.console import Console

from copyd.cli.views import screen
from copyd.observe import document
from copyd.status import ObserverStatus
from tests.support.status_samples import NOW, status, transfer


def shown(*observers: ObserverStatus) -> str:
    found = document(status(transfer("orders")), {}, observers, now=0.0)
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        console.print(screen(found, now=NOW))
    return capture.get()


def test_an_observer_that_failed_is_shown_with_its_last_error() -> None:
    failed = ObserverStatus("history", 3, "OSError: disk full")
    text = shown(ObserverStatus("log"), failed)
    assert "the history failed 3 times, last with OSError: disk full" in text
    assert "the log failed" not in text


def test_without_failures_no_observer_is_mentioned() -> None:
    assert "failed" not in shown(ObserverStatus("log"), ObserverStatus("history"))
