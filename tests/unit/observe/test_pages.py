from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry, Gauge

from copyd.errors import CopydError
from copyd.observe.http import Answer, Pages, Server
from copyd.observe.request import Request
from tests.support.status_samples import status


def ask(path: str, *, state: str = "ready", beat: float = 0.0, accept: str = "") -> Answer:
    registry = CollectorRegistry()
    Gauge("one", "One.", registry=registry).set(1)
    pages = Pages(
        registry=registry,
        status=lambda: status(state=state, beat=beat),
        document=lambda: {"state": state},
        monotonic=lambda: 100.0,
        beat_limit=15.0,
    )
    return pages.answer(Request(is_head=False, path=path, host=None, accept=accept))


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
@pytest.mark.parametrize("state", ["starting", "ready", "stopping"])
def test_it_is_alive_as_long_as_its_loop_goes_round(path: str, state: str) -> None:
    assert ask(path, state=state, beat=86.0).status == 200
    dead = ask(path, state=state, beat=84.0)
    assert dead.status == 503
    assert dead.body == b"the daemon's loop has not iterated for 16 s\n"


def test_it_is_ready_only_when_it_says_so_and_is_alive() -> None:
    assert ask("/readyz", beat=99.0).status == 200
    assert ask("/readyz", beat=1.0).status == 503
    for state in ("starting", "stopping"):
        answer = ask("/readyz", state=state, beat=99.0)
        assert (answer.status, answer.body) == (503, f"the daemon is {state}\n".encode())


def test_the_status_is_json() -> None:
    answer = ask("/status")
    assert answer.kind == "application/json"
    assert json.loads(answer.body) == {"state": "ready"}


def test_metrics_come_in_the_format_that_is_asked_for() -> None:
    plain = ask("/metrics")
    assert b"one 1.0" in plain.body
    assert plain.kind.startswith("text/plain")
    opened = ask("/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert opened.body.endswith(b"# EOF\n")
    assert opened.kind.startswith("application/openmetrics-text")


def test_a_page_that_is_not_there_names_those_that_are() -> None:
    assert ask("/").status == 200
    answer = ask("/admin")
    assert answer.status == 404
    assert b"/metrics" in answer.body


def test_head_gets_the_same_headers_and_no_body() -> None:
    answer = ask("/")
    whole, head = answer.message(is_head=False), answer.message(is_head=True)
    assert whole == head + answer.body
    assert f"Content-Length: {len(answer.body)}\r\n".encode() in head


@pytest.mark.parametrize(
    "listen", ["9632", ":9632", "localhost", "localhost:http", "localhost:70000"]
)
def test_an_address_that_cannot_be_one_is_refused(listen: str) -> None:
    with pytest.raises(CopydError, match=r"http\.listen: expected an address and a port"):
        Server(listen, registry=CollectorRegistry(), status=status, document=dict)
