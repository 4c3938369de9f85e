"""A TCP proxy that cuts, stalls, resets, slices and slows what passes, at exact byte positions."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

DEADLINE = 10.0
TICK = 0.02
"""Seconds between two drops of what drips."""


class Action(Enum):
    """What happens when the given number of bytes has passed."""

    CUT = "close both sides in good order"
    RESET = "close both sides with a reset"
    STALL = "pass nothing more until released"


class Gate:
    """One direction of a connection; only the proxy's threads and the test's own touch it."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.piece = 64 * 1024
        self.reached = threading.Event()
        self._limit: int | None = None
        self._action = Action.STALL
        self._rate: int | None = None
        self._releases = 0
        self._changed = threading.Condition()

    def after(self, count: int, action: Action) -> None:
        """Let `count` more bytes pass, then act."""
        with self._changed:
            self._limit, self._action = len(self.seen) + count, action
            self.reached.clear()

    def drip(self, rate: int) -> None:
        """Let no more than `rate` bytes a second pass from now on."""
        with self._changed:
            self._rate = rate

    def release(self) -> None:
        """Let everything pass from now on."""
        with self._changed:
            self._limit = self._rate = None
            self._releases += 1
            self._changed.notify_all()

    def admit(self, size: int) -> tuple[int, Action | None]:
        """Say how many of `size` bytes may pass now, and what to do where none may."""
        with self._changed:
            if self._rate is not None:
                size = min(size, max(1, round(self._rate * TICK)))
                self._wait_for_release(size / self._rate)
            if self._limit is None:
                return min(size, self.piece), None
            room = self._limit - len(self.seen)
            if room > 0:
                return min(size, room, self.piece), None
            self.reached.set()
            if self._action is Action.STALL:
                self._wait_for_release(DEADLINE)
                return 0, None
            return 0, self._action

    def _wait_for_release(self, timeout: float) -> None:
        before = self._releases
        self._changed.wait_for(lambda: self._releases > before, timeout)


class Proxy:
    """Listens on ``port`` and forwards to ``target``; the gates watch the first connection only.

    Later connections (cancel requests) pass freely.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.to_server = Gate()
        self.to_client = Gate()
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Little is held here, so that a stall is soon felt by the one who sends.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
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
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(DEADLINE)
        for gate in (self.to_server, self.to_client):
            gate.release()
        for peer in self._sockets:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        for peer in self._sockets:
            peer.close()

    def _accept(self) -> None:
        gates = self.to_server, self.to_client
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for peer in (client, server):
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                for source, sink, gate in zip(
                    (client, server), (server, client), gates, strict=True
                ):
                    thread = threading.Thread(target=self._forward, args=(source, sink, gate))
                    self._threads.append(thread)
                    thread.start()
                gates = Gate(), Gate()

    def _forward(self, source: socket.socket, sink: socket.socket, gate: Gate) -> None:
        with suppress(OSError):
            while data := source.recv(64 * 1024):
                while data:
                    size, action = gate.admit(len(data))
                    if action is not None:
                        self._end(source, sink, action)
                        return
                    gate.seen += data[:size]
                    sink.sendall(data[:size])
                    data = data[size:]
        with suppress(OSError):  # also where the source was reset: the sink would wait for ever
            sink.shutdown(socket.SHUT_WR)

    @staticmethod
    def _end(source: socket.socket, sink: socket.socket, action: Action) -> None:
        for peer in (source, sink):
            if action is Action.RESET:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # Closing is what resets; the other thread's recv must not keep it open.
                with suppress(OSError):
                    peer.shutdown(socket.SHUT_RD)
                peer.close()
            else:
                peer.shutdown(socket.SHUT_RDWR)
