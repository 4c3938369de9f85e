"""Durations as they are written: a whole number and a unit, such as ``30s``."""

from __future__ import annotations

import re

PATTERN = "^[0-9]{1,9}(ms|s|m|h|d)$"
"""A regular expression, for JSON Schema too."""

EXPECTED = 'a duration such as "500ms", "30s", "5m", "24h" or "7d"'

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")


def parse(text: str) -> float:
    """Return the seconds that `text` stands for; raises ValueError where it is no duration."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"expected {EXPECTED}, got {text!r}")
    number, unit = found.groups()
    return int(number) * _MILLISECONDS[unit] / 1000


def spell(seconds: float) -> str:
    """Write `seconds` in the largest unit that takes them whole, to the millisecond."""
    whole = round(seconds * 1000)
    for unit, size in _MILLISECONDS.items():
        if whole % size == 0 and whole >= size:
            return f"{whole // size}{unit}"
    return "0s"
