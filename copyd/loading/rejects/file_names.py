"""Names of tables, transfers and runs as names of files: never a path, never two alike; pure.

All but ASCII letters, digits, ``_`` and ``-`` is percent-encoded, so that no name is hidden or leads
elsewhere; long names are cut.
"""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import unquote_to_bytes

LONGEST = 200
"""Bytes of a name; file systems take 255, and suffixes come behind it."""
PENDING = ".pending"
"""Suffix of a run's folder until its COMMIT is certain."""
REMOVING = ".removing"
"""Suffix of a run's folder while it is removed."""
SUFFIXES = (".dat", ".log", ".jsonl")
"""The files of a table: its rows, the server's words, one JSON object a row."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_EMPTY = "%"
_CUT = "~"
"""Stands in names that were cut, and in no others."""
_HEAD = 150
_HALF_AN_ESCAPE = re.compile("%[0-9A-F]?$")


def encode(name: str) -> str:
    """Return the file name for `name`; different names get different file names."""
    return _fitting(_encoded(name))


def encode_table(schema: str, name: str) -> str:
    """Return ``schema.name`` as a file name; its one dot is the one between them."""
    return _fitting(f"{_encoded(schema)}.{_encoded(name)}")


def decode(part: str) -> str | None:
    """Return the name that `encode` made `part` of; None where it was cut, or made otherwise."""
    try:
        name = unquote_to_bytes(part if part != _EMPTY else "").decode("utf-8", "surrogatepass")
    except UnicodeError:
        return None
    return name if encode(name) == part else None


def _encoded(name: str) -> str:
    data = name.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data) or _EMPTY


def _fitting(encoded: str) -> str:
    """Cut a name that is too long; a digest of all of it keeps it unique."""
    if len(encoded) <= LONGEST:
        return encoded
    head = _HALF_AN_ESCAPE.sub("", encoded[:_HEAD])
    return f"{head}{_CUT}{sha256(encoded.encode()).hexdigest()[:40]}"
