"""Columns are matched by name, and refused with a sentence before any data moves; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from copyd.catalog.keys import Key
    from copyd.catalog.relations import Column, Relation

_LATEST = (18, 18)
# Types of pg_catalog by family: members may understand each other's texts.
_FAMILIES = {
    name: family
    for family, names in {
        "number": "int2 int4 int8 numeric float4 float8 oid",
        "text": 'text varchar bpchar char name *."citext"',
        "day": "date timestamp timestamptz",
        "time of day": "time timetz",
        "address": "inet cidr",
        "device": "macaddr macaddr8",
        "bits": "bit varbit",
        "json": "json jsonb",
    }.items()
    for name in names.split()
}
_PIECE = re.compile(r'"(?:[^"]|"")*"|[(),]|[^"(),]+')
_FIELD = re.compile(r'\s*("(?:[^"]|"")*") (.*)', re.DOTALL)
_OFTEN_KEPT_AS_TEXT = {"uuid", "json", "jsonb", "xml", "inet", "cidr", "macaddr", "macaddr8"}


def copied(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns to copy: all but generated ones, which replicas compute."""
    return tuple(column for column in columns if not column.is_generated)


def selected(columns: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns `names`, in that order; generated ones travel where they are named.

    Raises CopydError where there is no such column, or one is named twice.
    """
    by_name = {column.name: column for column in columns}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise CopydError(f"there is no column {', '.join(missing)} to copy")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise CopydError(f"column {', '.join(twice)} is named twice: name it once")
    return tuple(by_name[name] for name in names)


def refusal(
    given: Sequence[Column],
    there: Sequence[Column],
    *,
    left_out: Iterable[Column] = (),
    is_binary: bool = False,
    majors: tuple[int, int] = _LATEST,
) -> str | None:
    """Say why `given` columns cannot be stored in the columns `there`; None where they can.

    ``left_out``: generated columns of the source that do not travel although nobody chose the
    columns. ``majors``: the versions of PostgreSQL on both sides.
    """
    if not given:
        return "the source has no column to copy"
    by_name = {column.name: column for column in there}
    missing = [column.name for column in given if column.name not in by_name]
    if missing:
        return f"it has no column {', '.join(missing)}"
    for column in given:
        reason = _mismatch(column, by_name[column.name])
        if reason is not None:
            return reason
    reason = _gap(given, there, left_out)
    if reason is None and is_binary:
        reason = binary_refusal(given, there, majors=majors)
        return f"{reason}: use the text format" if reason is not None else None
    return reason


def require_match(
    given: Sequence[Column],
    there: Sequence[Column],
    *,
    table: str,
    left_out: Iterable[Column] = (),
    is_binary: bool = False,
    majors: tuple[int, int] = _LATEST,
) -> None:
    """Raise CopydError where `given` columns cannot be stored in `table`; see `refusal`."""
    reason = refusal(given, there, left_out=left_out, is_binary=is_binary, majors=majors)
    if reason is not None:
        raise CopydError(f"table {table} does not fit: {reason}")


def binary_refusal(
    given: Sequence[Column], there: Sequence[Column], *, majors: tuple[int, int] = _LATEST
) -> str | None:
    """Say why `given` columns cannot travel in binary into the columns `there`; None if they can.

    ``majors``: the versions of PostgreSQL on both sides. For columns that `refusal` lets pass.
    """
    by_name = {column.name: column for column in there}
    for column in given:
        stored = by_name[column.name]
        never = column.binary_refusal or stored.binary_refusal
        if never is not None:
            return f"column {column.name} {never}"
        if _form(stored) != _form(column):
            return f"its column {column.name} is {stored.type}, {_difference(column, stored)}"
        if min(majors) < 14 and (column.is_user_compound or stored.is_user_compound):
            return (
                f"column {column.name} is {column.type}, which in binary names types by numbers"
                " that PostgreSQL 13 compares with its own"
            )
        if min(majors) < 17 <= max(majors) and _holds_intervals(column):
            return (
                f"column {column.name} is {column.type}, whose infinity in binary is another"
                " interval before PostgreSQL 17"
            )
    return None


def require_key(
    relation: Relation, wanted: Collection[str] | None, *, given: Iterable[Column]
) -> Key:
    """Return the key of `relation` with the columns `wanted`; None is the primary key.

    Raises CopydError where it has none, or one of its columns is not among those `given`.
    """
    if wanted is not None:
        keys = [key for key in relation.keys if set(key.columns) == set(wanted)]
        what = f"no unique index of NOT NULL columns ({', '.join(wanted)})"
    else:
        keys = [key for key in relation.keys if key.is_primary]
        what = "no primary key"
    if not keys:
        raise CopydError(
            f"table {relation.label} has {what}: create it, name another key, or use "
            'mode = "replace"'
        )
    names = {column.name for column in given}
    absent = [name for name in keys[0].columns if name not in names]
    if absent:
        raise CopydError(
            f"column {', '.join(absent)} of the key of table {relation.label} is not copied: "
            "copy it, or name another key"
        )
    return keys[0]


def _mismatch(column: Column, stored: Column) -> str | None:
    if stored.is_generated:
        return f"its column {column.name} is generated and cannot be written"
    if not _can_store(stored, column):
        return (
            f"its column {column.name} is {stored.type}, {_difference(column, stored)}: "
            "copy a query that casts it, or leave it out"
        )
    return None


def _gap(
    given: Sequence[Column], there: Sequence[Column], left_out: Iterable[Column]
) -> str | None:
    """Say which columns `there` would get no value."""
    names = {column.name for column in given}
    kept = {column.name for column in there if not column.is_generated} - names
    computed = [column.name for column in left_out if column.name in kept]
    if computed:
        return (
            f"its column {', '.join(computed)} is not generated, but the source's is: "
            "list the columns to copy, with or without it"
        )
    required = [each.name for each in there if each.is_required and each.name not in names]
    if required:
        return (
            f"its column {', '.join(required)} must not be null, and the source does not give it: "
            "give it a default"
        )
    return None


def _can_store(stored: Column, given: Column) -> bool:
    """Whether the server is likely to understand the texts; it still judges each value."""
    if not stored.signature or not given.signature:
        return True
    return stored.category == "S" or _reads(stored.signature, given.signature)


def _reads(there: str, given: str) -> bool:
    """Whether a type with one signature is likely to understand the texts of another."""
    family = _FAMILIES.get(there, _shape(there))
    if there == given or family == "text":
        return True
    if _FAMILIES.get(given) == "text":
        return there in _OFTEN_KEPT_AS_TEXT or family == "enum"
    if family != _FAMILIES.get(given, _shape(given)):
        return False
    if family in ("array", "range", "multirange"):
        return _reads(_item(there), _item(given))
    if family == "composite":
        return _matches(_fields(there), _fields(given))
    return True


def _matches(there: Sequence[tuple[str, str]], given: Sequence[tuple[str, str]]) -> bool:
    """Whether fields have the same names in the same order; values go by their place alone."""
    return [name for name, _ in there] == [name for name, _ in given] and all(
        _reads(stored, sent) for (_, stored), (_, sent) in zip(there, given, strict=True)
    )


def _shape(signature: str) -> str:
    """Return the kind of type; a type outside all families is a family of its own."""
    if signature.endswith("[]"):
        return "array"
    if signature.endswith(")"):
        return signature.partition("(")[0] or "composite"
    return signature


def _item(signature: str) -> str:
    if signature.endswith("[]"):
        return signature[:-2]
    return signature[signature.index("(") + 1 : -1]


def _fields(signature: str) -> list[tuple[str, str]]:
    """Return names and signatures of a composite's fields."""
    fields, depth = [""], 0
    for piece in _PIECE.findall(signature[1:-1]):
        depth += (piece == "(") - (piece == ")")
        if piece == "," and depth == 0:
            fields.append("")
        else:
            fields[-1] += piece
    found = filter(None, map(_FIELD.fullmatch, fields))
    return [(field[1], field[2]) for field in found]


def _form(column: Column) -> str:
    return column.signature or column.type


def _difference(column: Column, stored: Column) -> str:
    if stored.type != column.type:
        return f"the source's is {column.type}"
    return "which is made of other fields, types or labels at the source"


def _holds_intervals(column: Column) -> bool:
    return re.search(r"\binterval\b", _form(column)) is not None
