"""Problems of a configuration: the key, the expected value and the given one.

No sentence shows a value of a server's section: it may be a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from copyd.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

KeyPath = tuple[str | int, ...]

LONGEST_SHOWN = 80
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
_SECRETIVE = re.compile(r"=|://")
"""Part of every connection string; names, durations and other short values do without."""


class ConfigError(SetupError):
    """A configuration file cannot be used; `problems` has one sentence for each error in it."""

    def __init__(self, file: Path, problems: Sequence[str]) -> None:
        super().__init__(file, problems)
        self.file = file
        self.problems = tuple(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.file}: {self.problems[0]}"
        return "\n  ".join([f"{self.file}: {len(self.problems)} errors", *self.problems])


@dataclass(frozen=True, slots=True)
class Problem:
    """One error: its key and a sentence.

    ``reads``: other keys that the problem rests on. If one of them is wrong itself, this is no
    problem yet.
    """

    path: KeyPath
    text: str
    reads: tuple[KeyPath, ...] = ()

    def __str__(self) -> str:
        return f"{spelled(self.path)}: {self.text}"

    def rests_on(self, broken: Iterable[KeyPath]) -> bool:
        """Whether the key or one of ``reads`` is in `broken`, or in a table of `broken`."""
        return any(
            _is_within(self.path, path)
            or any(_is_within(read, path) or _is_within(path, read) for read in self.reads)
            for path in broken
        )

    @property
    def order(self) -> tuple[tuple[int, str], ...]:
        """A sort key that keeps the problems of a section together."""
        return tuple((part, "") if isinstance(part, int) else (0, part) for part in self.path)


def spelled(path: KeyPath) -> str:
    """Write a key as in TOML, list items as ``[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if _BARE_KEY.fullmatch(part) else f".{_quoted_key(part)}"
    return text.lstrip(".")


def shown(value: object) -> str:
    """Return the value itself if it is short and cannot contain a secret, else its `kind`."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str() if len(value) <= LONGEST_SHOWN and not _SECRETIVE.search(value):
            return _quoted(value)
        case _:
            return kind(value)


def kind(value: object) -> str:
    """Return the TOML type of a value, with its article."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def suggestion(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean ...?``, or an empty string if no known word is similar."""
    near = get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return f"; did you mean {shown(near[0])}?" if near else ""


def _quoted(text: str) -> str:
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _is_within(path: KeyPath, table: KeyPath) -> bool:
    return path[: len(table)] == table


def _quoted_key(part: str) -> str:
    if _SECRETIVE.search(part):
        return "'...'"
    is_literal = part.isprintable() and "'" not in part
    return f"'{part}'" if is_literal else _quoted(part)
