"""The server as its clients meet it: sockets on the loopback interface."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from copyd.cluster.poll import wait_for
from copyd.errors import CopydError
from copyd.observe.http import MAX_CONNECTIONS, Server
from tests.support.status_samples import status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from copyd.observe.document import Document

pytestmark = pytest.mark.usefixtures("no_leaks")


@contextmanager
def serving(
    listen: str = "127.0.0.1:0",
    *,
    document: Callable[[], Document] = dict,
    reading: float = 5.0,
    names: tuple[str, ...] = (),
) -> Iterator[Server]:
    server = Server(
        listen,
        registry=CollectorRegistry(),
        status=lambda: status(beat=time.monotonic()),
        document=document,
        names=names,
        reading=reading,
    )
    server.start()
    try:
        yield server
    finally:
        server.close()


def get(
    server: Server, path: str = "/livez", *, method: str = "GET", **headers: str
) -> tuple[int, str]:
    with closing(http.client.HTTPConnection(*server.address, timeout=5)) as client:
        client.request(method, path, headers=headers)
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def raw(server: Server, *pieces: bytes) -> bytes:
    with socket.create_connection(server.address, timeout=10) as client:
        for piece in pieces:
            client.sendall(piece)
        received = b""
        while piece := client.recv(65536):
            received += piece
        return received


def test_it_answers_get_and_head_and_nothing_else() -> None:
    with serving() as server:
        assert get(server) == (200, "alive\n")
        assert get(server, method="HEAD") == (200, "")
        assert get(server, "/nowhere")[0] == 404
        code, said = get(server, method="POST")
        assert code == 405
        assert "these pages are read-only" in said


@pytest.mark.parametrize("host", ["evil.example", "10.1.2.3", "localhost.evil.example:9632"])
def test_a_foreign_host_is_refused(host: str) -> None:
    with serving() as server:
        code, said = get(server, Host=host)
        assert code == 421
        assert host not in said


def test_a_name_that_was_given_and_the_machines_own_are_answered() -> None:
    with serving(names=("Copyd.internal",)) as server:
        for host in ("copyd.internal:80", socket.gethostname(), "localhost", "127.0.0.1"):
            assert get(server, Host=host)[0] == 200, host


def test_it_can_listen_on_ipv6() -> None:
    try:
        with serving("[::1]:0") as server:
            assert get(server)[0] == 200
    except CopydError:
        pytest.skip("this machine has no IPv6")


def test_a_huge_head_is_refused_before_it_is_all_there() -> None:
    with serving() as server:
        lines = b"GET / HTTP/1.1\r\n" + b"".join(
            b"X-%d: %s\r\n" % (i, b"y" * 90) for i in range(500)
        )
        assert raw(server, lines).startswith(b"HTTP/1.1 431 ")
        assert raw(server, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n").startswith(
            b"HTTP/1.1 431 "
        )


def test_a_client_that_drips_its_request_is_cut_off_in_time() -> None:
    with serving(reading=0.5) as server:
        began = time.monotonic()
        with socket.create_connection(server.address, timeout=10) as client:
            client.settimeout(0.05)
            received = b""
            while not received and time.monotonic() - began < 8:
                try:
                    client.sendall(b"x")
                    received = client.recv(100)
                except TimeoutError:
                    pass  # the next drop
            assert received.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 4


def test_clients_that_hang_keep_nobody_out() -> None:
    with serving(reading=60) as server, ExitStack() as hanging:
        for _ in range(3 * MAX_CONNECTIONS):
            client = hanging.enter_context(socket.create_connection(server.address, timeout=10))
            client.sendall(b"GET /livez HTTP/1.1\r\n")
        for _ in range(10):
            began = time.monotonic()
            assert get(server)[0] == 200
            assert time.monotonic() - began < 1


def test_a_client_that_does_not_read_its_answer_hurts_nobody() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serving(document=lambda: {"x": "y" * 50_000_000}))
        deaf = stack.enter_context(socket.create_connection(server.address, timeout=10))
        deaf.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began = time.monotonic()
        assert get(server)[0] == 200
        assert time.monotonic() - began < 1


def test_many_are_answered_at_once() -> None:
    found: list[int] = []

    with serving() as server:
        threads = [
            threading.Thread(target=lambda: found.append(get(server, "/metrics")[0]))
            for _ in range(MAX_CONNECTIONS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [200] * MAX_CONNECTIONS


def test_a_page_that_fails_is_no_reason_to_end() -> None:
    def broken() -> Document:
        raise RuntimeError("secret")

    with serving(document=broken) as server:
        code, said = get(server, "/status")
        assert code == 500
        assert "secret" not in said
        assert get(server)[0] == 200


def test_closing_ends_clients_that_hang() -> None:
    with serving(reading=60) as server:
        before = set(threading.enumerate())
        client = socket.create_connection(server.address, timeout=10)
        client.sendall(b"GET")
        assert wait_for(lambda: bool(set(threading.enumerate()) - before), timeout=5)
    with client, suppress(ConnectionResetError):  # that is how it ends where nobody had read yet
        assert client.recv(100) == b""


def test_an_address_that_is_taken_is_one_sentence() -> None:
    with serving() as server:
        host, port = server.address
        said = rf"http\.listen: cannot listen on {host}:{port}: "
        with pytest.raises(CopydError, match=said), serving(f"{host}:{port}"):
            pass
