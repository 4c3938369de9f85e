"""A read-only HTTP server for metrics, health and status: a thread and a request a connection.

Slow clients are disconnected after a few seconds. At MAX_CONNECTIONS the oldest connection is
closed for the new one, so that hung clients do not lock others out. Nothing waits for the daemon's
loop.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder

from copyd.errors import CopydError
from copyd.observe.request import MAX_HEAD, Refusal, is_ours, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

    from copyd.observe.document import Document
    from copyd.observe.request import Request
    from copyd.status import Status

BEAT_LIMIT = 15.0  # seconds; /livez fails if the daemon's loop has not iterated for longer

MAX_CONNECTIONS = 32
READING = 5.0  # seconds for a client's request, from the first byte to the last
WRITING = 10.0  # seconds for a client to receive the answer
LINGER = 1.0

_TEXT = "text/plain; charset=utf-8"
_INDEX = """copyd
/metrics  for Prometheus
/status   the whole status, as JSON
/livez    200 if the daemon's loop iterates (/healthz is the same)
/readyz   200 if the daemon runs transfers
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; ``kind`` is its Content-Type."""

    status: int
    body: bytes
    kind: str = _TEXT
    headers: Mapping[str, str] = field(default_factory=dict)

    def message(self, *, is_head: bool) -> bytes:
        """Return the response's bytes; without the body for HEAD."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.kind}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return head if is_head else head + self.body


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Answers requests; knows no sockets."""

    registry: CollectorRegistry
    status: Callable[[], Status]
    document: Callable[[], Document]
    monotonic: Callable[[], float] = time.monotonic
    beat_limit: float = BEAT_LIMIT

    def answer(self, request: Request) -> Answer:
        match request.path:
            case "/metrics":
                encode, kind = choose_encoder(request.accept)
                return Answer(200, encode(self.registry), kind)
            case "/livez" | "/healthz":
                return self._livez()
            case "/readyz":
                return self._readyz()
            case "/status":
                body = json.dumps(self.document(), ensure_ascii=False, indent=2)
                return Answer(200, f"{body}\n".encode(), "application/json")
            case "/":
                return _text(200, _INDEX)
            case _:
                return _text(404, f"page not found; the pages are:\n\n{_INDEX}")

    def _livez(self) -> Answer:
        age = self.monotonic() - self.status().beat
        if age > self.beat_limit:
            return _text(503, f"the daemon's loop has not iterated for {age:.0f} s")
        return _text(200, "alive")

    def _readyz(self) -> Answer:
        alive = self._livez()
        if alive.status != 200:
            return alive
        state = self.status().state
        return _text(200, "ready") if state == "ready" else _text(503, f"the daemon is {state}")


class Server:
    """Listens on `listen` ("ADDRESS:PORT") from ``start`` to ``close``.

    ``names``: further names of this machine for the Host header. The lock guards the open
    connections.
    """

    def __init__(
        self,
        listen: str,
        *,
        registry: CollectorRegistry,
        status: Callable[[], Status],
        document: Callable[[], Document],
        names: tuple[str, ...] = (),
        reading: float = READING,
    ) -> None:
        self._listen = listen
        self._host, self._port = _split(listen)
        self._pages = Pages(registry=registry, status=status, document=document)
        self._names = frozenset(
            name.lower() for name in (*names, self._host, socket.gethostname()) if name
        )
        self._reading = reading
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._closing = threading.Event()
        self._open: OrderedDict[socket.socket, None] = OrderedDict()  # the oldest first
        self._threads: list[threading.Thread] = []  # only the accepting thread changes it
        self._lock = threading.Lock()

    @property
    def address(self) -> tuple[str, int]:
        """The address and port; for port 0 the real port, once the server has started."""
        if self._listener is None:
            return self._host, self._port
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Listen; raises CopydError if the address cannot be used."""
        # Decision: An HTTP server of three hundred lines
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            self._listener = socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            raise CopydError(
                f"http.listen: cannot listen on {self._listen}: {error.strerror or error}"
            ) from error
        self._acceptor = threading.Thread(
            target=self._accept, args=(self._listener,), name="http", daemon=True
        )
        self._acceptor.start()

    def close(self) -> None:
        """Stop, and close every connection."""
        self._closing.set()
        if self._listener is None or self._acceptor is None:
            return
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # unblocks accept()
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            for connection in self._open:
                _cut(connection)
        for thread in self._threads:
            thread.join(LINGER)

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                self._closing.wait(0.1)  # if descriptors have run out, do not spin
                continue
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        thread = threading.Thread(target=self._serve, args=(connection,), name="http", daemon=True)
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                _cut(next(iter(self._open)))
                self._open.popitem(last=False)
            self._open[connection] = None
        self._threads = [each for each in self._threads if each.is_alive()]
        try:
            thread.start()
            self._threads.append(thread)
        except RuntimeError:  # the system's limit of threads
            self._forget(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError):  # the client has disconnected, or was cut off
                request, answer = self._hear(connection)
                is_head = request is not None and request.is_head
                connection.settimeout(WRITING)
                connection.sendall(answer.message(is_head=is_head))
                _linger(connection)
        finally:
            self._forget(connection)

    def _hear(self, connection: socket.socket) -> tuple[Request | None, Answer]:
        request = None
        try:
            request = parse(_read_head(connection, self._reading))
            local = connection.getsockname()[0]
            if not is_ours(request.host, names=self._names, local_address=local):
                raise Refusal(421, "unknown Host: use the address of this server")
            return request, self._pages.answer(request)
        except Refusal as refusal:
            return request, _text(refusal.status, refusal.sentence, **refusal.headers)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - the clients' boundary: the daemon survives a broken page
            return request, _text(500, "this page failed; the daemon is not affected")

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)
            # Under the lock: `_admit` and `close` must not cut a reused descriptor.
            connection.close()


def _split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise CopydError(
            f'http.listen: expected an address and a port such as "127.0.0.1:9632", got "{listen}"'
        )
    return host.strip("[]"), int(port)


def _read_head(connection: socket.socket, seconds: float) -> bytes:
    """Read up to the empty line, within `seconds` in total.

    Raises Refusal if the head is late or too large, OSError if the client disconnects.
    """
    deadline = time.monotonic() + seconds
    head = b""
    while (end := head.find(b"\r\n\r\n")) < 0 and len(head) <= MAX_HEAD:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Refusal(408, f"the request took longer than {seconds:g} s")
        connection.settimeout(left)
        try:
            piece = connection.recv(4096)
        except TimeoutError:
            continue
        if not piece:
            raise ConnectionAbortedError
        head += piece
    if not 0 <= end <= MAX_HEAD:
        raise Refusal(431, f"a request has at most {MAX_HEAD} bytes")
    return head[:end]


def _linger(connection: socket.socket) -> None:
    # A close with unread input sends RST, and the client would lose the answer.
    connection.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + LINGER
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        if not connection.recv(65536):
            return


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _text(status: int, sentence: str, **headers: str) -> Answer:
    return Answer(status, f"{sentence.rstrip()}\n".encode(), headers=headers)
