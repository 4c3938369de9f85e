"""Durations and sizes: a whole number and a unit, such as ``30s`` or ``20MB``.

A kB is 1,024 bytes, as in PostgreSQL's documentation, "Parameter Names and Values".
"""

from __future__ import annotations

import re

DURATION_PATTERN = "^[0-9]{1,9}(ms|s|m|h|d)$"  # a regular expression, for JSON Schema too
SIZE_PATTERN = "^[0-9]{1,9}(kB|MB|GB)$"  # as DURATION_PATTERN

EXPECTED_DURATION = 'a duration such as "500ms", "30s", "5m", "24h" or "7d"'
EXPECTED_SIZE = 'a size such as "512kB", "20MB" or "1GB"'

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_BYTES = {"GB": 1 << 30, "MB": 1 << 20, "kB": 1 << 10}


def parse_duration(text: str) -> float:
    """Return a duration in seconds; raises ValueError if `text` is not a duration."""
    return _parse(text, DURATION_PATTERN, _MILLISECONDS, EXPECTED_DURATION) / 1000


def spell_duration(seconds: float) -> str:
    """Write a duration in the largest unit of which it is a multiple, to the millisecond."""
    return _spell(round(seconds * 1000), _MILLISECONDS) or "0s"


def parse_size(text: str) -> int:
    """Return a size in bytes; raises ValueError if `text` is not a size."""
    return _parse(text, SIZE_PATTERN, _BYTES, EXPECTED_SIZE)


def spell_size(size: int) -> str:
    """Write a size in the largest unit of which it is a multiple; kB are rounded down."""
    return _spell(size, _BYTES) or f"{size // _BYTES['kB']}kB"


def _parse(text: str, pattern: str, units: dict[str, int], expected: str) -> int:
    found = re.fullmatch(pattern.strip("^$"), text)
    if found is None:
        raise ValueError(f"expected {expected}, got {text!r}")
    unit = found[1]
    return int(text.removesuffix(unit)) * units[unit]


def _spell(number: int, units: dict[str, int]) -> str | None:
    for unit, factor in units.items():
        if number % factor == 0 and number >= factor:
            return f"{number // factor}{unit}"
    return None
