"""Addresses with faults: one that lets little through, two that never answer."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tests.support.listener import Forwarder, shut

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIPS_A_SECOND = 10
FREE = 64 * 1024


class Drip(Forwarder):
    """Forwards to ``target``, towards it only so many bytes a second after the first ones."""

    def __init__(self, target: int, *, bytes_a_second: int) -> None:
        # Little is held here: what has not gone through has hardly left the one who sends.
        super().__init__(target, receive_buffer=16 * 1024)
        self._piece = bytes_a_second // DRIPS_A_SECOND
        self._is_ended = threading.Event()

    def release(self) -> None:
        self._is_ended.set()

    def forward(self, client: socket.socket, server: socket.socket) -> None:
        self.spawn(self._drip, client, server)
        self.spawn(self._pour, client, server)

    def _drip(self, client: socket.socket, server: socket.socket) -> None:
        """The first bytes are free: connecting and preparing are not what is slow."""
        free = FREE
        with suppress(OSError):
            while data := client.recv(self._piece):
                server.sendall(data)
                free -= len(data)
                if free < 0 and self._is_ended.wait(len(data) / self._piece / DRIPS_A_SECOND):
                    break
        shut(server, socket.SHUT_WR)

    def _pour(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(64 * 1024):
                client.sendall(data)
        shut(client, socket.SHUT_WR)


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
