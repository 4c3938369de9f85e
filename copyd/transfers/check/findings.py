"""Findings of a check; pure apart from the savepoint of `Notes.trying`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from copyd.transfers.destination import Refusal, refusing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from copyd.connection import Connection

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A success, warning or error; ``transfer`` and ``table`` are empty for a whole server."""

    transfer: str
    server: str
    table: str
    severity: Severity
    sentence: str


@dataclass
class Notes:
    """The findings about one server, or about one server in one transfer."""

    server: str
    transfer: str = ""
    found: list[Finding] = field(default_factory=list)

    def note(self, severity: Severity, sentence: str, table: str = "") -> None:
        self.found.append(Finding(self.transfer, self.server, table, severity, sentence))

    def error(self, sentence: str, table: str = "") -> None:
        self.note("error", sentence, table)

    def is_well(self, table: str) -> bool:
        return not any(each.table == table and each.severity == "error" for each in self.found)

    def refuse(self, refusals: Iterable[Refusal]) -> None:
        """Note `refusals`: a lock of another session is a warning, all others are errors."""
        for refusal in refusals:
            severity: Severity = "warning" if refusal.may_pass else "error"
            self.note(severity, refusal.sentence, refusal.table)

    @contextmanager
    def trying(self, connection: Connection, table: str = "") -> Iterator[None]:
        """Note the errors of the block, and roll back to its start."""
        refusals: list[Refusal] = []
        with refusing(connection, table, refusals):
            yield
        self.refuse(refusals)
