"""TOML's own values, with whichever parser this Python has."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse(text: str) -> dict[str, object]:
    parsed: dict[str, object] = tomllib.loads(text)
    return parsed
