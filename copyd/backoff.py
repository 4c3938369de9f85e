"""Exponential backoff with a limit and jitter; pure."""

from __future__ import annotations

MAX_DOUBLINGS = 64


def backoff(failures: int, *, first: float, longest: float, jitter: float) -> float:
    """Return the wait in seconds after `failures` (at least 1) in a row.

    `jitter`, a random number from 0 to 1, shortens the wait by up to half, so that callers that
    failed together do not return together.
    """
    doubled = first * 2.0 ** min(failures - 1, MAX_DOUBLINGS)
    return min(doubled, longest) * (1 + jitter) / 2
