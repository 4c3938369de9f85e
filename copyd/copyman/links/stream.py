"""The byte stream under a libpq connection, borrowed for the length of one COPY."""

from __future__ import annotations

import fcntl
import os
import socket
import termios
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

from psycopg import Connection, OperationalError

if TYPE_CHECKING:
    from collections.abc import Sequence

_INT = Struct("@i")
_VIEWS_AT_ONCE = 64  # well below what one sendmsg takes
_SEND_BUFFER = 2 * 1024 * 1024
"""Bytes asked for a local socket, which the kernel caps (``net.core.wmem_max``); TCP finds its own.

The default holds less than one block, and all wait while the slowest destination takes that in."""


class Stream(Protocol):
    """Bytes both ways, without waiting; raises OperationalError where the connection is lost."""

    @property
    def is_flushed(self) -> bool:
        """Whether all that was taken is on its way; else ``send`` again, even nothing."""

    @property
    def unsent(self) -> int:
        """Bytes, about, of what was sent that a local socket's peer has not taken; 0 over TCP."""

    def receive(self, target: memoryview) -> int:
        """Fill `target` from its start; returns how many bytes, 0 only where none have come."""

    def send(self, views: Sequence[memoryview]) -> int:
        """Send from the start of `views`; returns how many bytes were taken, 0 where full."""

    def close(self) -> None:
        """Give the stream back to libpq, open as it was."""


class PlainStream:
    """An unencrypted socket, by a duplicate of libpq's descriptor."""

    is_flushed = True

    def __init__(self, connection: Connection[Any]) -> None:
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._socket.settimeout(0)
        self._is_local = self._socket.family == socket.AF_UNIX
        if self._is_local:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    @property
    def unsent(self) -> int:
        if not self._is_local:
            return 0  # how much of it the other kernel holds cannot be seen, and that is more
        # SIOCOUTQ of Linux, with the kernel's own overhead.
        (size,) = _INT.unpack(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(_INT.size)))
        return int(size)

    def receive(self, target: memoryview) -> int:
        try:
            count = self._socket.recv_into(target)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise OperationalError(f"connection lost while receiving: {error}") from error
        if count == 0:
            raise OperationalError("the server closed the connection unexpectedly")
        return count

    def send(self, views: Sequence[memoryview]) -> int:
        try:
            return self._socket.sendmsg(views[:_VIEWS_AT_ONCE])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise OperationalError(f"connection lost while sending: {error}") from error

    def close(self) -> None:
        self._socket.close()
