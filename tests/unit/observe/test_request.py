from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.observe.request import Refusal, Request, is_ours, parse


def test_a_get_is_read() -> None:
    head = b"GET /metrics?x=1 HTTP/1.1\r\nHost: db1:9632\r\nACCEPT: a\r\nAccept:  b \r\nX: y"
    assert parse(head) == Request(is_head=False, path="/metrics", host="db1", accept="a, b")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET / HTTP/2.0\r\nHost: x", 400),
        (b"GET  / HTTP/1.1\r\nHost: x", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET http://x/ HTTP/1.1\r\nHost: x", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x", 400),
        (b"GET / HTTP/1.1\r\nHost: ", 400),
        (b"GET / HTTP/1.1\r\nHost: user@x", 400),
        (b"GET / HTTP/1.1\r\nHost: [::1", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nno colon", 400),
        (b"POST / HTTP/1.1\r\nHost: x", 405),
        (b"DELETE / HTTP/1.1\r\nHost: x", 405),
        (b"get / HTTP/1.1\r\nHost: x", 400),
    ],
    ids=repr,
)
def test_what_is_no_request_for_us_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        parse(head)
    assert refused.value.status == status


def test_http_1_0_may_leave_its_host_out() -> None:
    assert parse(b"HEAD / HTTP/1.0") == Request(is_head=True, path="/", host=None, accept="")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_refusal(head: bytes) -> None:
    with suppress(Refusal):
        assert parse(head).path.startswith("/")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.0.0.2", "[::1]", "10.0.0.7", "db1", "DB1.", None]
)  # fmt: skip
def test_our_own_names_are_ours(host: str | None) -> None:
    assert is_ours(host, names=frozenset({"db1"}), local_address="10.0.0.7")


@pytest.mark.parametrize(
    "host", ["evil.example", "10.0.0.8", "localhost.evil.example", "db1.x", "1"]
)
def test_other_names_are_foreign(host: str) -> None:
    assert not is_ours(host, names=frozenset({"db1"}), local_address="10.0.0.7")


def test_an_address_is_the_same_however_it_is_written() -> None:
    assert is_ours("10.0.0.7", names=frozenset(), local_address="::ffff:10.0.0.7")
    assert is_ours("[FE80:0::1]", names=frozenset(), local_address="fe80::1%eth0")
