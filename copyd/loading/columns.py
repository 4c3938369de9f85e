"""Which columns travel: matched by name, refused with a sentence before any data moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copyd.errors import CopydError

# Their text is a name, their binary form a number that names something else on another server.
_NAMES_OF_OBJECTS = (
    "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper",
    "regoperator", "regproc", "regprocedure", "regrole", "regtype",
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.loading.relations import Column


def copied(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns that a source gives: all but generated ones, which replicas compute."""
    return tuple(column for column in columns if not column.is_generated)


def refusal(given: Sequence[Column], there: Sequence[Column], *, is_binary: bool) -> str | None:
    """Say why `given` columns cannot be stored in the columns `there`; None where they can."""
    if not given:
        return "the source has no column to copy"
    by_name = {column.name: column for column in there}
    missing = [column.name for column in given if column.name not in by_name]
    if missing:
        return f"it has no column {', '.join(missing)}"
    for column in given:
        stored = by_name[column.name]
        if stored.is_generated:
            return f"its column {column.name} is generated and cannot be written"
        if is_binary and column.type.removesuffix("[]") in _NAMES_OF_OBJECTS:
            return f"column {column.name} is {column.type}: use the text format"
        if is_binary and stored.type != column.type:
            return (
                f"its column {column.name} is {stored.type}, the source's is {column.type}: "
                "use the text format"
            )
    return None


def require_match(
    given: Sequence[Column], there: Sequence[Column], *, table: str, is_binary: bool
) -> None:
    """Raise CopydError where `given` columns cannot be stored in `table`."""
    reason = refusal(given, there, is_binary=is_binary)
    if reason is not None:
        raise CopydError(f"table {table} does not fit: {reason}")
