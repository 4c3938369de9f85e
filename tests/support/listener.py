"""The TCP listener under the proxies, the wiretap and the scripted server."""

from __future__ import annotations

import socket
import struct
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

DEADLINE = 30.0


class Listener(ABC):
    """Accepts connections on ``port``; at the end every thread is joined and every socket closed."""

    def __init__(self, *, receive_buffer: int | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port: int = self._listener.getsockname()[1]
        self._peers: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @abstractmethod
    def serve(self, peer: socket.socket) -> None:
        """Begin to serve a connection, in threads of `spawn`."""

    def release(self) -> None:  # noqa: B027 - most have nobody to release
        """Let every thread go on that waits for a test's permission."""

    def adopt(self, peer: socket.socket) -> None:
        """Close `peer` at the end."""
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peers.append(peer)

    def spawn(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()
        return thread

    def cut(self) -> None:
        """Shut every connection down; what is held is lost."""
        for peer in list(self._peers):
            shut(peer)
        self.release()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shut(self._listener)
        self._listener.close()
        self._threads[0].join(DEADLINE)
        self.cut()
        for thread in self._threads:
            thread.join(DEADLINE)
        for peer in self._peers:
            peer.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.adopt(peer)
                self.serve(peer)


class Forwarder(Listener):
    """Connects each client to the server on the port ``target``."""

    def __init__(self, target: int, *, receive_buffer: int | None = None) -> None:
        super().__init__(receive_buffer=receive_buffer)
        self.target = target

    @abstractmethod
    def forward(self, client: socket.socket, server: socket.socket) -> None:
        """Begin to forward between the two, in threads of `spawn`."""

    def serve(self, peer: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:  # the server is down: so is its address
            peer.close()
            return
        self.adopt(server)
        self.forward(peer, server)


def shut(peer: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with suppress(OSError):
        peer.shutdown(how)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Closing is what resets; another thread's recv must not keep the socket open.
    shut(peer, socket.SHUT_RD)
    peer.close()
