"""The meaning of a server's errors for a copy: one table by SQLSTATE class; pure.

Source of the classes: PostgreSQL documentation, appendix "PostgreSQL Error Codes".
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

FOREIGN_KEY = "23503"
CONFLICTS = frozenset({"23505", "23P01"})
"""Violations of a unique or an exclusion constraint: another row is in the way."""
_LINE = re.compile(r"(?m)^COPY .*?, \S+ (\d+)(?:,|:|$)")


class Blame(Enum):
    """Whether a row caused the error."""

    ROW = "the row"
    RAISED = "the row if a trigger's RAISE chose the SQLSTATE, else the statement"
    SERVER = "the server or the connection, even if a trigger raised it"


class Message(Enum):
    """Whether a message may quote values of a row: then `transfers.faults.facts` leaves it out."""

    # Decision: Facts instead of the server's words

    SAFE = "is about connections, locks or resources"
    NAMES = "is about names, and a function can make names out of values"
    VALUES = "may quote values"


# Decision: One table says what a SQLSTATE means
class ErrorClass(NamedTuple):
    """``kind`` is the metrics' label; ``transient``: SQLSTATE prefixes of passing errors (a lock, a shutdown)."""

    kind: str
    blame: Blame = Blame.RAISED
    message: Message = Message.VALUES
    transient: tuple[str, ...] = ()


UNLISTED = ErrorClass("other")
CLASSES = {
    **dict.fromkeys(("0L", "0P", "26", "34", "3B"), ErrorClass("other", message=Message.NAMES)),
    **dict.fromkeys(("38", "39"), ErrorClass("other", Blame.ROW)),
    "08": ErrorClass("connection", Blame.SERVER, Message.SAFE, ("08",)),
    "0A": ErrorClass("feature_not_supported", message=Message.NAMES),
    "22": ErrorClass("data", Blame.ROW),
    "23": ErrorClass("constraint", Blame.ROW),
    "25": ErrorClass("transaction_state", message=Message.SAFE, transient=("25006",)),
    "28": ErrorClass("authorization", message=Message.NAMES),
    "3D": ErrorClass("catalog", message=Message.NAMES),
    "3F": ErrorClass("schema", message=Message.NAMES),
    "40": ErrorClass("rollback", Blame.SERVER, Message.SAFE, ("40",)),
    "42": ErrorClass("definition_or_privilege", message=Message.NAMES),
    "53": ErrorClass("resources", Blame.SERVER, Message.SAFE, ("53",)),
    "54": ErrorClass("limit", Blame.ROW),
    "55": ErrorClass("state_or_lock", Blame.SERVER, Message.SAFE, ("55P03",)),
    "57": ErrorClass(
        "intervention", Blame.SERVER, Message.SAFE, ("57P01", "57P02", "57P03", "57P05")
    ),
    "58": ErrorClass("system", message=Message.NAMES),
    "P0": ErrorClass("raised", Blame.ROW),
    "XX": ErrorClass("internal"),
}


def class_of(sqlstate: str) -> ErrorClass:
    """Return the class of `sqlstate`, or `UNLISTED`."""
    return CLASSES.get(sqlstate[:2], UNLISTED)


def copy_line(context: str | None) -> int | None:
    """Return the line number of COPY in an error's CONTEXT; None if there is none.

    ``COPY t, line 7, column x: ...``: the table's name may contain commas, the words may be
    translated, and the quoted value may look like such a line.
    """
    found = _LINE.findall(context or "")  # the last one: lines of a trigger's own COPY precede
    return int(found[-1]) if found else None
