"""The lines of a reject in its files; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from copyd.copyman import Reject
    from copyd.names import TableName


def of_log(reject: Reject) -> bytes:
    """Return the server's message with all fields, like psql, and an empty line."""
    refusal = reject.refusal
    said = {
        "DETAIL": refusal.detail,
        "HINT": refusal.hint,
        "CONTEXT": refusal.context,
        "COLUMN NAME": refusal.column,
        "CONSTRAINT NAME": refusal.constraint,
    }
    lines = [
        f"row {reject.ordinal}, batch {reject.batch}",
        f"ERROR:  {refusal.sqlstate}: {_indented(refusal.message)}",
        *(f"{word}:  {_indented(text)}" for word, text in said.items() if text is not None),
    ]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class RejectRecord:
    """The keys of a line in ``.jsonl``.

    ``ordinal``: the row's number in the scan of its table, from 1. ``offset``, ``length``: the place
    of the row in ``.dat``, with its newline.
    """

    schema: str
    table: str
    ordinal: int
    batch: int
    sqlstate: str
    message: str
    detail: str | None
    hint: str | None
    context: str | None
    constraint: str | None
    column: str | None
    offset: int
    length: int

    @classmethod
    def of(cls, table: TableName, reject: Reject, *, offset: int) -> RejectRecord:
        """Describe the reject whose row is at `offset`."""
        refusal = reject.refusal
        return cls(
            schema=table.schema,
            table=table.name,
            ordinal=reject.ordinal,
            batch=reject.batch,
            sqlstate=refusal.sqlstate,
            message=refusal.message,
            detail=refusal.detail,
            hint=refusal.hint,
            context=refusal.context,
            constraint=refusal.constraint,
            column=refusal.column,
            offset=offset,
            length=len(reject.row),
        )

    @classmethod
    def parse(cls, line: bytes) -> RejectRecord:
        """Read a line; raises ValueError or TypeError if changed by others."""
        return cls(**json.loads(line))

    def line(self) -> bytes:
        """Return the line, in ASCII."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode() + b"\n"


def harmless(text: str, *, keep: str = "") -> str:
    """Escape control characters, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _escape(each) for each in text)


def _escape(character: str) -> str:
    number = ord(character)
    if number > 0xFFFF:
        return f"\\U{number:08x}"
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"


def _indented(text: str) -> str:
    return harmless(text, keep="\n\t").replace("\n", "\n\t")
