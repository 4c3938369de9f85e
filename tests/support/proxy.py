"""A TCP proxy that cuts, stalls, resets, slices and slows what passes, at exact byte positions."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from enum import Enum

from tests.support.listener import Forwarder, reset, shut

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


class Proxy(Forwarder):
    """Listens on ``port`` and forwards to ``target``; the gates watch the first connection only.

    Later connections (cancel requests) pass freely.
    """

    def __init__(self, target: int) -> None:
        # Little is held here, so that a stall is soon felt by the one who sends.
        super().__init__(target, receive_buffer=32 * 1024)
        self.to_server = Gate()
        self.to_client = Gate()
        self._gates = self.to_server, self.to_client

    def release(self) -> None:
        self.to_server.release()
        self.to_client.release()

    def forward(self, client: socket.socket, server: socket.socket) -> None:
        to_server, to_client = self._gates
        self._gates = Gate(), Gate()
        self.spawn(self._forward, client, server, to_server)
        self.spawn(self._forward, server, client, to_client)

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
        shut(sink, socket.SHUT_WR)  # also where the source was reset: the sink would wait for ever

    @staticmethod
    def _end(source: socket.socket, sink: socket.socket, action: Action) -> None:
        for peer in (source, sink):
            if action is Action.RESET:
                reset(peer)
            else:
                shut(peer)
