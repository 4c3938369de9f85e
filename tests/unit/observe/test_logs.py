from __future__ import annotations

import io
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from copyd import events
from copyd.observe import logs
from tests.support.status_samples import a_run, ended, kinds, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.events import Event


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def written(*told: Event, level: str = "debug", format: str = "json") -> list[str]:  # noqa: A002
    stream = io.StringIO()
    logs.configure(level=level, format=format, stream=stream, environ={})
    observe = logs.Log().watch("orders")
    for event in told:
        observe(event)
    return stream.getvalue().splitlines()


def one(event: Event) -> dict[str, Any]:
    (line,) = written(event)
    found: dict[str, Any] = json.loads(line)
    return found


def test_each_event_is_one_line_that_says_which_run_it_is_of() -> None:
    lines = [json.loads(line) for line in written(*a_run())]
    assert len(lines) == len(a_run())
    assert {(line["transfer"], line["run"]) for line in lines} == {("orders", "run-1")}
    assert [line["event"] for line in lines][:5] == [
        "run.started", "snapshot.taken", "pass.started", "data.relayed", "destination.dropped",
    ]  # fmt: skip
    dropped = lines[4]
    assert list(dropped)[:6] == ["timestamp", "level", "event", "transfer", "run", "destination"]
    assert dropped["level"] == "warning"
    assert dropped["destination"] == "us"
    assert dropped["cause"] == "the connection was lost"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", dropped["timestamp"])


def test_every_event_has_a_name_of_its_own() -> None:
    names = {logs.name_of(object.__new__(kind)) for kind in kinds()}
    assert len(names) == len(kinds())
    assert {"horizon.held_back", "rows.missed", "config.refused", "history.failed"} <= names
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in names)


def test_data_is_told_only_to_who_debugs() -> None:
    relayed = events.DataRelayed(frozenset({"us", "eu"}), 1, 10)
    assert written(relayed, level="info") == []
    assert one(relayed)["destinations"] == ["eu", "us"]


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (ended("eu"), "info"),
        (ended("eu", "failed", cause="no"), "error"),
        (ended("eu", "unknown"), "error"),
        (events.RunEnded("partial", 1.0), "warning"),
        (events.RunRefused("orders", "no", 1.0), "error"),
        (events.ConfigRefused(("a", "b")), "error"),
        (events.DestinationOut("orders", "eu", 5, 1.0), "error"),
        (events.DestinationBack("orders", "eu"), "info"),
        (events.HistoryFailed("full"), "error"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_matters_has_its_level(event: Event, level: str) -> None:
    assert one(event)["level"] == level


def test_a_level_that_is_set_while_a_run_goes_on_holds_for_it_too() -> None:
    stream = io.StringIO()
    logs.configure(level="error", format="json", stream=stream, environ={})
    observe = logs.Log().watch("orders")
    observe(started())
    assert stream.getvalue() == ""
    logs.configure(level="info", format="json", stream=stream, environ={})
    observe(events.RunEnded("succeeded", 1.0))
    assert json.loads(stream.getvalue())["run"] == "run-1"


def test_the_daemons_own_events_name_no_transfer_that_they_do_not_have() -> None:
    stream = io.StringIO()
    logs.configure(level="info", format="json", stream=stream, environ={})
    logs.Log()(events.DaemonReady(3, 1))
    line = json.loads(stream.getvalue())
    assert line["event"] == "daemon.ready"
    assert (line["transfers"], line["clusters"]) == (3, 1)
    assert "transfer" not in line


@pytest.mark.parametrize("format", ["json", "console"])
def test_nothing_that_an_event_quotes_can_begin_a_line(format: str) -> None:  # noqa: A002
    nasty = 'first\nsecond\r\x1b[31m\u2028\x85{"event": "forged"}'
    lines = written(events.DestinationDropped("eu", nasty, will_return=False), format=format)
    assert len(lines) == 1
    assert "\x1b" not in lines[0]
    assert lines[0].isprintable()


SECRET = "s3cr3t-Pa55"


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize(
    "quoted",
    [
        f"host=db password={SECRET} dbname=x",
        f"host=db password = '{SECRET} and \\' more'",
        f"could not open postgresql://shop:{SECRET}@db1/shop",
        f"postgres://shop:{SECRET}@db1,db2/shop?x=1",
        f"postgresql://db/shop?user=a&password={SECRET}&x=1",
        f"PASSWORD: {SECRET}",
        f"sslpassword={SECRET}",
    ],
)
def test_what_looks_like_a_password_is_blotted_out(quoted: str, format: str) -> None:  # noqa: A002
    told: list[Event] = [
        events.DestinationDropped("eu", quoted, will_return=False),
        ended("eu", "failed", cause=quoted),
        events.ConfigRefused((quoted, quoted)),
        events.ClusterDown("analytics", quoted, None),
    ]
    text = "\n".join(written(*told, format=format))
    assert SECRET not in text
    assert "more" not in text
    assert "***" in text


def test_a_line_for_people_reads_from_left_to_right() -> None:
    (line,) = written(
        events.DestinationDropped("eu", "the server is gone", will_return=True), format="console"
    )
    assert re.fullmatch(
        r"\S+ warning destination\.dropped +transfer=orders destination=eu "
        r'cause="the server is gone" will_return=true kind=other',
        line,
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_is_for_people_on_a_terminal_and_for_programs_elsewhere() -> None:
    for stream, begins, environ in (
        (Terminal(), "\x1b[32m", {}),
        (Terminal(), "info", {"NO_COLOR": "1"}),
        (io.StringIO(), '{"timestamp"', {}),
    ):
        logs.configure(stream=stream, environ=environ)
        logs.Log()(events.DaemonReady(1, 0))
        assert begins in stream.getvalue()


def test_journald_gets_a_priority_before_each_line(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        logs.configure(level="debug", stream=stream, environ=environ)
        log = logs.Log()
        log(events.DaemonReady(1, 0))
        log(events.RunMissed("orders", "busy"))
        log(events.ConfigRefused(("no",)))
        stream.seek(0)
        lines = stream.read().splitlines()
    assert [line[:4] for line in lines] == ["<6>{", "<4>{", "<3>{"]
    assert json.loads(lines[0][3:])["event"] == "daemon.ready"


def test_a_stream_that_journald_does_not_read_gets_none(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as stream:
        logs.configure(stream=stream, environ={"JOURNAL_STREAM": "1:2"})
        logs.Log()(events.DaemonReady(1, 0))
        stream.seek(0)
        assert stream.read().startswith("{")


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        logs.configure(stream=full, environ={})
        log = logs.Log()
        log(events.DaemonReady(1, 0))
        log(events.DaemonReady(1, 0))
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
            # What could not be flushed is still there, and would be an error when it is closed.
            os.dup2(nowhere.fileno(), full.fileno())
    log(events.DaemonReady(1, 0))  # the stream is closed
