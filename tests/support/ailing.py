"""Addresses that ail: one that lets little through, one that never answers."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

DEADLINE = 30.0
DRIPS_A_SECOND = 10
FREE = 64 * 1024


class Drip:
    """Forwards to ``target``, towards it only so many bytes a second after the first ones."""

    def __init__(self, target: int, *, bytes_a_second: int) -> None:
        self.target = target
        self._piece = bytes_a_second // DRIPS_A_SECOND
        self._is_ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Little is held here: what has not gone through has hardly left the one who sends.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(DEADLINE)
        for peer in self._sockets:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        for peer in self._sockets:
            peer.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [client, server]
                for work in (self._drip, self._pour):
                    thread = threading.Thread(target=work, args=(client, server))
                    self._threads.append(thread)
                    thread.start()

    def _drip(self, client: socket.socket, server: socket.socket) -> None:
        """The first bytes are free: connecting and preparing are not what is slow."""
        free = FREE
        with suppress(OSError):
            while data := client.recv(self._piece):
                server.sendall(data)
                free -= len(data)
                if free < 0 and self._is_ended.wait(len(data) / self._piece / DRIPS_A_SECOND):
                    break
        _end(server)

    def _pour(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(64 * 1024):
                client.sendall(data)
        _end(client)


def _end(peer: socket.socket) -> None:
    with suppress(OSError):
        peer.shutdown(socket.SHUT_WR)


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose connections are never established: the queue of its listener is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        waiting: list[socket.socket] = []
        try:
            while _is_accepted(port, waiting):
                pass
            yield port
        finally:
            for peer in waiting:
                peer.close()


@contextmanager
def silent_listener() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def _is_accepted(port: int, waiting: list[socket.socket]) -> bool:
    peer = socket.socket()
    waiting.append(peer)
    peer.settimeout(0.2)
    try:
        peer.connect(("127.0.0.1", port))
    except TimeoutError:
        return False
    return True
