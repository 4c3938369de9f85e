"""File names for tables, transfers and runs: never a path, different for different names; pure.

All characters except ASCII letters, digits, ``_`` and ``-`` are percent-encoded. Long names are cut.
"""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import unquote_to_bytes

# Decision: File names are names, percent-encoded
LONGEST = 200  # bytes; file systems allow 255, suffixes included
PENDING = ".pending"  # suffix of a run's folder until its COMMIT is certain
REMOVING = ".removing"  # suffix of a run's folder while it is removed
SUFFIXES = (".dat", ".log", ".jsonl")
"""The files of a table: rows, the server's messages, a JSON object for each row."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_EMPTY = "%"
_CUT = "~"  # only in names that were cut
_HEAD = 150
_HALF_AN_ESCAPE = re.compile("%[0-9A-F]?$")


def encode(name: str) -> str:
    """Return the file name for `name`; different names get different file names."""
    return _fitting(_encoded(name))


def encode_table(schema: str, name: str) -> str:
    """Return ``schema.name`` as a file name, whose only dot separates the two."""
    return _fitting(f"{_encoded(schema)}.{_encoded(name)}")


def decode(part: str) -> str | None:
    """Reverse `encode`; None if `part` was cut, or has another origin."""
    try:
        name = unquote_to_bytes(part if part != _EMPTY else "").decode("utf-8", "surrogatepass")
    except UnicodeError:
        return None
    return name if encode(name) == part else None


def _encoded(name: str) -> str:
    data = name.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data) or _EMPTY


def _fitting(encoded: str) -> str:
    if len(encoded) <= LONGEST:
        return encoded
    head = _HALF_AN_ESCAPE.sub("", encoded[:_HEAD])
    # A digest of the whole name keeps cut names different.
    return f"{head}{_CUT}{sha256(encoded.encode()).hexdigest()[:40]}"
