"""The byte stream of a libpq connection, borrowed for a COPY."""

from __future__ import annotations

import fcntl
import os
import socket
import termios
from struct import Struct
from typing import TYPE_CHECKING, Protocol

from psycopg import OperationalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.connection import Connection

_INT = Struct("@i")
_VIEWS_AT_ONCE = 64  # well below what one sendmsg takes
_SEND_BUFFER = 2 * 1024 * 1024
"""Send buffer of a local socket, in bytes; the kernel caps this (``net.core.wmem_max``).

The default is smaller than one block, so all would wait for the slowest destination. TCP sizes its
own buffers."""


class Stream(Protocol):
    """Bytes both ways, without waiting; raises OperationalError if the connection is lost."""

    @property
    def is_flushed(self) -> bool:
        """Whether all accepted bytes are on their way; else call `send` again, even with nothing."""

    @property
    def unsent(self) -> int:
        """About how many sent bytes a local socket's peer has not read; 0 over TCP."""

    def receive(self, target: memoryview) -> int:
        """Fill `target` from its start; returns the number of bytes, 0 only if none arrived."""

    def send(self, views: Sequence[memoryview]) -> int:
        """Send from the start of `views`; returns the number of bytes accepted, 0 if full."""

    def close(self) -> None:
        """Return the stream to libpq, open."""


class PlainStream:
    """An unencrypted socket, through a duplicate of libpq's descriptor."""

    is_flushed = True

    def __init__(self, connection: Connection) -> None:
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._socket.settimeout(0)
        self._is_local = self._socket.family == socket.AF_UNIX
        if self._is_local:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    @property
    def unsent(self) -> int:
        if not self._is_local:
            return 0  # most unread bytes are in the other kernel, which does not report them
        # Decision: Lockstep stays
        # Linux's SIOCOUTQ; includes the kernel's own overhead.
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
