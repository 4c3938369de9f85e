"""The TLS session of a libpq connection, borrowed: libpq's own SSL object and its own OpenSSL.

libpq documents ``PQsslStruct``, which returns the OpenSSL session of a connection. The functions
are looked up through the library that psycopg was loaded with, whose dependencies are this libpq
and its libssl: another OpenSSL in this process (Python's own) must not touch the session.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from functools import cache
from typing import TYPE_CHECKING

from psycopg import OperationalError, pq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.connection import Connection

_WRITE_SIZE = 64 * 1024
"""Bytes of one SSL_write: four TLS records. More saves hardly anything."""
_WANT_READ, _WANT_WRITE = 2, 3


class _Library:
    """Functions of libpq and OpenSSL; raises OSError or AttributeError if they are not found."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self.session = library.PQsslStruct
        self.session.restype, self.session.argtypes = pointer, [pointer, ctypes.c_char_p]
        self.read = library.SSL_read
        self.read.restype, self.read.argtypes = number, [pointer, pointer, number]
        self.write = library.SSL_write
        self.write.restype, self.write.argtypes = number, [pointer, ctypes.c_char_p, number]
        self.get_error = library.SSL_get_error
        self.get_error.restype, self.get_error.argtypes = number, [pointer, number]
        self.clear_errors = library.ERR_clear_error
        self.clear_errors.restype, self.clear_errors.argtypes = None, []


# Decision: A COPY on the connection's own byte stream, TLS included
@cache
def _library() -> _Library | str:
    if pq.__impl__ == "python":
        path = ctypes.util.find_library("pq")
    else:
        path = sys.modules[pq.PGconn.__module__].__file__
    if path is None:
        return "libpq was not found"
    try:
        return _Library(path)
    except (OSError, AttributeError) as error:
        return f"OpenSSL was not found beside libpq: {error}"


def why_not(connection: Connection) -> str | None:
    """Return the reason why the TLS session of `connection` cannot be borrowed, or None."""
    library = _library()
    if isinstance(library, str):
        return library
    return None if _session(library, connection) else "libpq's TLS is not OpenSSL's"


def _session(library: _Library, connection: Connection) -> int | None:
    pointer = getattr(connection.pgconn, "pgconn_ptr", None)  # not in psycopg's protocol
    session: int | None = library.session(pointer, b"OpenSSL") if pointer else None
    return session


class TlsStream:
    """Whole records through libpq's session, for which `why_not` returned None.

    The socket stays libpq's.
    """

    unsent = 0

    def __init__(self, connection: Connection) -> None:
        library = _library()
        if isinstance(library, str):
            raise OperationalError(library)
        self._library = library
        self._connection = connection
        self._session = _session(library, connection)
        # Decision: A TLS record that was begun is the stream's
        self._taken = b""

    @property
    def is_flushed(self) -> bool:
        return not self._taken

    def receive(self, target: memoryview) -> int:
        self._require_open()
        read, session = self._library.read, self._session
        begin = position = ctypes.addressof(ctypes.c_char.from_buffer(target))
        stop = begin + len(target)
        self._library.clear_errors()  # SSL_get_error reads the thread's error queue
        while position < stop:
            count = read(session, position, stop - position)
            if count <= 0:
                self._check(count, "receiving", has_data=position > begin)
                break
            position += count
        return position - begin

    def send(self, views: Sequence[memoryview]) -> int:
        self._require_open()
        if not self._flush():
            return 0
        self._taken = _first_bytes(views, _WRITE_SIZE)
        taken = len(self._taken)
        self._flush()
        return taken

    def close(self) -> None:
        self._session = None

    def _require_open(self) -> None:
        # libpq freed the session when the connection was closed.
        if self._connection.closed:
            raise OperationalError("the connection is closed")

    def _flush(self) -> bool:
        if not self._taken:
            return True
        self._library.clear_errors()
        count = self._library.write(self._session, self._taken, len(self._taken))
        if count <= 0:
            self._check(count, "sending")
            return False
        self._taken = b""
        return True

    def _check(self, result: int, doing: str, *, has_data: bool = False) -> None:
        """Raise, unless the session only has to wait or `has_data` was received before."""
        code = self._library.get_error(self._session, result)
        if code not in (_WANT_READ, _WANT_WRITE) and not has_data:
            raise OperationalError(f"connection lost while {doing}: TLS error {code}")


def _first_bytes(views: Sequence[memoryview], size: int) -> bytes:
    if len(views) == 1:
        return bytes(views[0][:size])
    parts = []
    for view in views:
        parts.append(view[:size])
        size -= len(parts[-1])
        if not size:
            break
    return b"".join(parts)
