"""Names of tables and columns, read as PostgreSQL reads them; standard library only.

PostgreSQL docs, "Identifiers and Key Words": a name outside double quotes is folded to lower case
(here as with a multi-byte encoding: ASCII letters only), inside them it stands as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from copyd.errors import CopydError

LONGEST = 63  # bytes of a name; a server truncates a longer one, and may then find another table

_PIECE = re.compile(
    r'"(?P<quoted>(?:[^"\0]|"")*)" | (?P<plain>[A-Za-z0-9_$\x80-\U0010ffff]+)'
    r" | (?P<wild>[*?]) | (?P<dot>\.)",
    re.VERBOSE,
)
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_GLOBS = {"*": ".*", "?": "."}
# pg_get_keywords() of PostgreSQL 13 to 18, catcode R and T: words that need quotes as a schema.
_WORDS = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check
collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user default deferrable desc
distinct do else end except false fetch for foreign freeze from full grant group having ilike
in initially inner intersect into is isnull join lateral leading left like limit localtime
localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
references returning right select session_user similar some symmetric system_user table
tablesample then to trailing true union unique user using variadic verbose when where window
with
"""
_KEYWORDS = frozenset(_WORDS.split())


class TableName(NamedTuple):
    """A table's names as the catalog has them; ``str()`` is SQL, quoted only where needed."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


def quote(name: str) -> str:
    """Write a name as SQL, in double quotes only if needed."""
    if _PLAIN.fullmatch(name) and name not in _KEYWORDS:
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def parse_identifier(text: str) -> str:
    """Parse a name: ``Foo`` is foo, ``"Foo"`` is Foo; raises CopydError."""
    reading = _Reading(text, 'a name such as id or "Id"')
    if len(reading.parts) != 1:
        raise reading.refused("a dot needs double quotes here")
    return reading.name_in(reading.parts[0])


def parse_table_name(text: str) -> TableName:
    """Parse a table name, ``SCHEMA.TABLE``; raises CopydError, also without a schema."""
    # Decision: Names are identifiers with a schema
    reading = _Reading(text, 'a table such as sales.orders or sales."Order"')
    schema, name = reading.qualified()
    return TableName(reading.name_in(schema), reading.name_in(name))


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """A table name, with ``*`` (any characters) and ``?`` (any one character) as wildcards.

    Inside double quotes they are plain characters. Case and needless quotes do not matter for
    equality; ``str()`` is the text as written.
    """

    text: str
    exact: TableName | None  # the table, if there is no wildcard
    _schema: re.Pattern[str]
    _name: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Parse ``SCHEMA.TABLE`` with or without wildcards; raises CopydError."""
        reading = _Reading(text, "a table or pattern such as sales.orders or sales.*")
        parts = reading.qualified()
        is_wild = any(piece.is_wild for part in parts for piece in part)
        exact = None if is_wild else TableName(*map(reading.name_in, parts))
        schema, name = (_expression(part) for part in parts)
        return cls(text, exact, schema, name)

    def matches(self, table: TableName) -> bool:
        """Whether the pattern matches `table`."""
        return bool(self._schema.fullmatch(table.schema) and self._name.fullmatch(table.name))

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pattern):
            return NotImplemented
        return (self._schema, self._name) == (other._schema, other._name)

    def __hash__(self) -> int:
        return hash((self._schema, self._name))


class _Piece(NamedTuple):
    text: str
    is_wild: bool


_Part = list[_Piece]


class _Reading:
    """A text split at its dots, and the error that refuses it."""

    def __init__(self, text: str, expected: str) -> None:
        self._text = text
        self._expected = expected
        self.parts: list[_Part] = [[]]
        was_name = False
        for match in self._matches():
            if match.lastgroup == "dot":
                self.parts.append([])
            else:
                if was_name and match.lastgroup != "wild":
                    raise self.refused("a name is quoted as a whole")
                self.parts[-1].append(self._piece(match))
            was_name = match.lastgroup in {"quoted", "plain"}
        if not all(self.parts):
            raise self.refused("a name is empty")

    def refused(self, reason: str) -> CopydError:
        """Return the error that says why the text is refused."""
        return CopydError(f"expected {self._expected}, got {self._text!r}: {reason}")

    def qualified(self) -> tuple[_Part, _Part]:
        """Return schema and name; raises CopydError unless the text is ``SCHEMA.TABLE``."""
        if len(self.parts) != 2:
            raise self.refused("write it as SCHEMA.TABLE")
        return self.parts[0], self.parts[1]

    def name_in(self, part: _Part) -> str:
        """Return a part without wildcards as a name; raises CopydError."""
        if any(piece.is_wild for piece in part):
            raise self.refused("* and ? need double quotes here")
        (piece,) = part
        if len(piece.text.encode("utf-8", "surrogatepass")) > LONGEST:
            raise self.refused(f"a name has at most {LONGEST} bytes")
        return piece.text

    def _matches(self) -> list[re.Match[str]]:
        matches = []
        position = 0
        while position < len(self._text):
            match = _PIECE.match(self._text, position)
            if match is None:
                raise self.refused(self._oddity(self._text[position]))
            matches.append(match)
            position = match.end()
        return matches

    def _oddity(self, character: str) -> str:
        if character == '"':
            return "a double quote is not closed"
        return f"{character!r} needs double quotes around the name"

    def _piece(self, match: re.Match[str]) -> _Piece:
        if match.lastgroup == "quoted":
            if not match["quoted"]:
                raise self.refused("a name is empty")
            return _Piece(match["quoted"].replace('""', '"'), is_wild=False)
        text = match[0]
        if not self.parts[-1] and text[0] in "0123456789$":
            raise self.refused(f"{text[0]!r} at the start of a name needs double quotes around it")
        return _Piece(_fold(text), is_wild=match.lastgroup == "wild")


def _fold(text: str) -> str:
    # ASCII only, as a server folds in a multi-byte encoding; str.lower() would fold more.
    return "".join(each.lower() if each.isascii() else each for each in text)


def _expression(part: _Part) -> re.Pattern[str]:
    pieces = [_GLOBS[piece.text] if piece.is_wild else re.escape(piece.text) for piece in part]
    return re.compile("".join(pieces), re.DOTALL)
