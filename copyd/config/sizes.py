"""Sizes as they are written: a whole number and a unit, such as ``20MB``; 1,024 of one a unit more.

PostgreSQL documentation, "Parameter Names and Values": the same units mean the same there.
"""

from __future__ import annotations

import re

PATTERN = "^[0-9]{1,9}(kB|MB|GB)$"
"""A regular expression, for JSON Schema too."""

EXPECTED = 'a size such as "512kB", "20MB" or "1GB"'

_BYTES = {"GB": 1 << 30, "MB": 1 << 20, "kB": 1 << 10}
_SIZE = re.compile(r"([0-9]{1,9})(kB|MB|GB)")


def parse(text: str) -> int:
    """Return the bytes that `text` stands for; raises ValueError where it is no size."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"expected {EXPECTED}, got {text!r}")
    number, unit = found.groups()
    return int(number) * _BYTES[unit]


def spell(size: int) -> str:
    """Write `size` in the largest unit that takes it whole; whole kB at least."""
    for unit, bytes_ in _BYTES.items():
        if size % bytes_ == 0 and size >= bytes_:
            return f"{size // bytes_}{unit}"
    return f"{size // _BYTES['kB']}kB"
