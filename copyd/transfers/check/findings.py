"""What is found out before a run, good and bad; nothing here asks a server."""

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
    """A success, warning or error; ``transfer`` and ``table`` are empty if it concerns neither."""

    transfer: str
    server: str
    table: str
    severity: Severity
    sentence: str


@dataclass
class Notes:
    """What is found out about one server, or about it in one transfer."""

    server: str
    transfer: str = ""
    found: list[Finding] = field(default_factory=list)

    def note(self, severity: Severity, sentence: str, table: str = "") -> None:
        """Write one finding down."""
        self.found.append(Finding(self.transfer, self.server, table, severity, sentence))

    def error(self, sentence: str, table: str = "") -> None:
        """Write down what a run would refuse."""
        self.note("error", sentence, table)

    def is_well(self, table: str) -> bool:
        """Whether nothing speaks against `table` so far."""
        return not any(each.table == table and each.severity == "error" for each in self.found)

    def refuse(self, refusals: Iterable[Refusal]) -> None:
        """Write down refusals; one that may pass is a warning."""
        for refusal in refusals:
            severity: Severity = "warning" if refusal.may_pass else "error"
            self.note(severity, refusal.sentence, refusal.table)

    @contextmanager
    def trying(self, connection: Connection, table: str = "") -> Iterator[None]:
        """Write down what the block raises, and leave the transaction as it was before."""
        refusals: list[Refusal] = []
        with refusing(connection, table, refusals):
            yield
        self.refuse(refusals)
