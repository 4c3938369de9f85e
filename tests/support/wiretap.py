"""A TCP proxy that knows the messages of protocol 3, and strikes at one of them.

Rows are one step however many there are, so that the steps of two runs can be compared. Only plain
connections: of an encrypted one there is nothing to read.
"""

from __future__ import annotations

import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from socket import SHUT_WR
from typing import TYPE_CHECKING, Literal

from tests.support.listener import DEADLINE, Forwarder, reset, shut

if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import Iterator

Way = Literal["to_server", "to_client"]
Place = Literal["before", "within", "after"]
PLACES: tuple[Place, ...] = ("before", "within", "after")


class Blow(Enum):
    """What happens to a connection."""

    CUT = "close both sides in good order"
    RESET = "close both sides with a reset"
    HOLD = "pass nothing more in this direction until released"


@dataclass(frozen=True)
class Step:
    """One message of a connection, or a row of rows."""

    connection: int
    way: Way
    number: int
    kind: bytes
    text: bytes
    count: int = 1


@dataclass(frozen=True)
class Plan:
    """Where to strike, and how: at a step, or at the first message that begins with a text.

    ``skip`` rows of a step of rows pass first. A lasting plan strikes again and again.
    """

    way: Way
    place: Place
    blow: Blow
    connection: int | None = None
    number: int | None = None
    text: bytes | None = None
    skip: int = 0
    is_lasting: bool = False

    def is_for(self, step: Step) -> bool:
        return (
            self.way == step.way
            and self.connection in (None, step.connection)
            and self.number in (None, step.number)
            and (self.text is None or step.text.startswith(self.text))
            and step.count == self.skip + 1
        )


class _Struck(Exception):
    """The connection has been ended."""


class Wiretap(Forwarder):
    """Listens on ``port`` and forwards to ``target``; records the steps since it was armed."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.struck = threading.Event()
        self._changed = threading.Condition()
        """Guards the plan, the steps, the count of connections and of releases."""
        self._plan: Plan | None = None
        self._steps: dict[tuple[int, Way, int], Step] = {}
        self._connections = 0
        self._era = 0
        self._releases = 0

    @property
    def steps(self) -> list[Step]:
        with self._changed:
            return list(self._steps.values())

    def arm(self, plan: Plan | None = None) -> None:
        """Count connections and steps from here on, and strike where the plan says."""
        with self._changed:
            self._plan = plan
            self._steps = {}
            self._connections = 0
            self._era += 1
            self.struck.clear()

    def wait_until_struck(self, started: subprocess.Popen[str]) -> bool:
        """Wait for the blow; False where the program ended before."""
        while not self.struck.wait(0.02):
            if started.poll() is not None:
                return self.struck.is_set()
        return True

    def release(self) -> None:
        """Let pass what is held, even if the one who sent it is dead."""
        with self._changed:
            self._releases += 1
            self._changed.notify_all()

    def forward(self, client: socket.socket, server: socket.socket) -> None:
        with self._changed:
            place = self._era, self._connections
            self._connections += 1
        self.spawn(self._serve, client, server, *place)

    def _serve(
        self, client: socket.socket, server: socket.socket, era: int, connection: int
    ) -> None:
        answers = threading.Thread(
            target=self._forward, args=(server, client, "to_client", era, connection)
        )
        answers.start()
        self._forward(client, server, "to_server", era, connection)
        answers.join()
        client.close()
        server.close()

    def _forward(
        self, source: socket.socket, sink: socket.socket, way: Way, era: int, connection: int
    ) -> None:
        reader = _Reader(is_started=way == "to_client")
        before: Step | None = None
        with suppress(OSError, _Struck):
            while data := source.recv(64 * 1024):
                ready = b""
                for kind, message in reader.read(data):
                    before = step = _next(before, connection, way, kind, message)
                    plan = self._note(era, step)
                    if plan is None:
                        ready += message
                        continue
                    early = {"before": 0, "within": len(message) // 2, "after": len(message)}
                    size = early[plan.place]
                    sink.sendall(ready + message[:size])
                    self._strike(plan.blow, source, sink)
                    ready = message[size:]
                sink.sendall(ready)
        shut(sink, SHUT_WR)

    def _note(self, era: int, step: Step) -> Plan | None:
        """Remember a step; returns the plan if it is due, once."""
        with self._changed:
            if era != self._era:
                return None
            self._steps[step.connection, step.way, step.number] = step
            if self._plan is None or not self._plan.is_for(step):
                return None
            plan = self._plan
            if not plan.is_lasting:
                self._plan = None
            return plan

    def _strike(self, blow: Blow, source: socket.socket, sink: socket.socket) -> None:
        if blow is Blow.HOLD:
            with self._changed:
                before = self._releases
                self.struck.set()
                self._changed.wait_for(lambda: self._releases > before, DEADLINE)
            return
        for peer in (source, sink):
            if blow is Blow.RESET:
                reset(peer)
            else:
                shut(peer)
        self.struck.set()
        raise _Struck


class _Reader:
    """Cuts a stream into whole messages; a client's first one has no type."""

    def __init__(self, *, is_started: bool) -> None:
        self._is_started = is_started
        self._data = b""

    def read(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._data += data
        position = 0
        while (size := self._size(position)) is not None:
            message = self._data[position : position + size]
            kind = message[:1] if self._is_started else b"startup"
            self._is_started = True
            position += size
            yield kind, message
        self._data = self._data[position:]

    def _size(self, position: int) -> int | None:
        head = 1 if self._is_started else 0
        if len(self._data) < position + head + 4:
            return None
        (size,) = struct.unpack_from("!I", self._data, position + head)
        whole: int = size + head
        return whole if len(self._data) >= position + whole else None


def _next(before: Step | None, connection: int, way: Way, kind: bytes, message: bytes) -> Step:
    number = 0 if before is None else before.number + 1
    count = 1
    if before is not None and kind == before.kind == b"d":
        number, count = before.number, before.count + 1
    # A statement's text follows the name of the prepared one, which is empty or short.
    text = message[5:].lstrip(b"\0")[:40] if kind in b"QPCE" else b""
    return Step(connection, way, number, kind, text, count)
