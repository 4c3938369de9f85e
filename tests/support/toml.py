"""TOML's own values, with whichever parser this Python has; and TOML of our own."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def parse(text: str) -> dict[str, object]:
    parsed: dict[str, object] = tomllib.loads(text)
    return parsed


def written(document: Mapping[str, object]) -> str:
    """Write nested mappings: strings, numbers, booleans and lists of strings."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Mapping[str, object], *path: str) -> Iterator[str]:
    if path:
        yield f"[{'.'.join(json.dumps(name) for name in path)}]"
    for key, value in document.items():
        if not isinstance(value, dict):
            yield f"{json.dumps(key)} = {json.dumps(value)}"
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _lines(value, *path, key)
