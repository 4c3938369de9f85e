"""The text of ``postgresql.conf``, parsed and changed: nothing here touches a file.

Grammar: PostgreSQL docs, "Parameter Interaction via the Configuration File". A line is
``name = value`` with an optional equals sign, ``#`` starts a comment, the last line of a name wins,
names are case-insensitive. A change leaves the rest of the text as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*"
_SETTING = re.compile(rf"{_NAME}(?:\.{_NAME})?")
_LINE = re.compile(
    rf"""
    (?P<indent>[ \t\r]*) (?P<mark>\#?[ \t]*) (?P<name>{_SETTING.pattern})
    (?P<sign>[ \t\r]*=[ \t\r]* | [ \t\r]+ | (?='))
    (?P<value>'(?:[^'\\]|\\.|'')*'[^ \t\r\#]* | [^ \t\r\#']* )
    (?P<rest>.*)
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)|''", re.DOTALL)
_ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True)
class Line:
    """A line with a setting; it may be commented out."""

    number: int  # counted from 1
    name: str  # in lower case
    value: str  # as the server reads it: without quotes and escapes
    is_active: bool
    match: re.Match[str]

    def commented(self) -> str:
        indent = self.match["indent"]
        return f"{indent}#{self.match[0][len(indent) :]}"

    def changed(self, value: str) -> str:
        """Return the line with another value, not commented out; a trailing comment stays."""
        sign = self.match["sign"] if "=" in self.match["sign"] else " = "
        rest = self.match["rest"]
        if rest.strip() and not rest.lstrip().startswith("#"):
            rest = f" #{rest.lstrip()}"  # else the server refuses the whole file
        return f"{self.match['indent']}{self.match['name']}{sign}{quote(value)}{rest}"


def parse(text: str) -> list[Line]:
    """Return the active settings in the file's order, repetitions included."""
    return [line for line in _candidates(text.split("\n")) if line.is_active]


def alter(text: str, changes: Mapping[str, str | None]) -> str:
    """Return a file's text with settings changed; a value of None comments a setting out.

    The value is written to the line, commented out or not, that already has it; else to the name's
    first active line; else to its first commented line; else to a new line at the end. The name's
    other active lines are commented out.
    """
    lines = text.split("\n")
    candidates = _candidates(lines)
    for name, value in changes.items():
        named = [line for line in candidates if line.name == name.lower()]
        chosen = None if value is None else _choose(named, value)
        for line in named:
            if line.is_active and line is not chosen:
                lines[line.number - 1] = line.commented()
        if value is None:
            continue
        if chosen is None:
            _append(lines, f"{name} = {quote(value)}")
        else:
            lines[chosen.number - 1] = chosen.changed(value)
    return "\n".join(lines)


def quote(value: str) -> str:
    """Quote a value for the file; raises `ValueError` if it contains a line break or a NUL."""
    if set(value) & set("\n\r\0"):
        raise ValueError(f"a setting cannot contain a line break or a NUL: {value!r}")
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def unquote(token: str) -> str:
    """Parse a value as the server does: two quotes are one, a backslash escapes as in C."""
    if not token.startswith("'"):
        return token
    inner = token[1 : token.rindex("'")].encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_unescape, inner).decode("utf-8", "surrogateescape")


def as_text(value: str | float) -> str:
    """Write a Python value as the server does: booleans are ``on`` and ``off``."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def checked_name(name: str) -> str:
    """Return ``name``; raises `ValueError` if no setting can have that name."""
    if not _SETTING.fullmatch(name):
        raise ValueError(f"expected the name of a setting such as work_mem or a.b, got {name!r}")
    return name


def _candidates(lines: list[str]) -> list[Line]:
    parsed = (_parse_line(number, text) for number, text in enumerate(lines, start=1))
    return [line for line in parsed if line is not None]


def _parse_line(number: int, text: str) -> Line | None:
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    is_active = not match["mark"]
    if not is_active and "=" not in match["sign"]:
        return None  # a comment in prose
    return Line(number, match["name"].lower(), unquote(match["value"]), is_active, match)


def _choose(named: list[Line], value: str) -> Line | None:
    def preference(line: Line) -> tuple[bool, bool, int]:
        return (line.value != value, not line.is_active, line.number)

    return min(named, key=preference, default=None)


def _append(lines: list[str], line: str) -> None:
    if lines[-1]:
        lines.append(line)
    else:
        lines[-1:] = [line, ""]


def _unescape(match: re.Match[bytes]) -> bytes:
    escaped: bytes | None = match[1]
    if escaped is None:
        return b"'"
    if escaped[:1] in b"01234567":
        return bytes([int(escaped, 8) & 0xFF])
    return _ESCAPED.get(escaped, escaped)
