"""What is found out before a run, good and bad; nothing here asks a server."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import psycopg

from copyd.errors import CopydError
from copyd.transfers.faults import facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.connection import Connection

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is well, or worth knowing, or would keep a run from its end.

    ``transfer`` is empty where it is about a server alone, ``table`` where about none.
    """

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

    @contextmanager
    def trying(self, connection: Connection, table: str = "") -> Iterator[None]:
        """Write down what the block raises, and leave the transaction as it was before."""
        try:
            with connection.transaction():
                yield
        except psycopg.errors.LockNotAvailable:
            busy = "somebody else has it locked now, so that a run would wait or fail"
            self.note("warning", busy, table)
        except psycopg.Error as error:
            if connection.broken:
                raise
            self.error(facts(error), table)
        except CopydError as error:
            self.error(str(error), table)
