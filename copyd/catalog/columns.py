"""Match columns of source and destination by name, or say why they do not fit; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from copyd.catalog.keys import Key
    from copyd.catalog.relations import Column, Relation

_LATEST = (18, 18)
# Types of pg_catalog by family: members can usually read each other's text format.
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
    """Return the columns to copy: all except generated ones, which each replica computes."""
    return tuple(column for column in columns if not column.is_generated)


def selected(columns: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns `names`, in that order, generated ones included.

    Raises CopydError if a column is missing, or named twice.
    """
    by_name = {column.name: column for column in columns}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise CopydError(f"there is no column {', '.join(missing)} to copy")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise CopydError(f"column {', '.join(twice)} is named twice: name it once")
    return tuple(by_name[name] for name in names)


def match_refusal(
    given: Sequence[Column],
    there: Sequence[Column],
    *,
    left_out: Iterable[Column] = (),
    is_binary: bool = False,
    majors: tuple[int, int] = _LATEST,
) -> str | None:
    """Say why `given` columns cannot be stored in the columns `there`; None if they can.

    ``left_out``: generated columns of the source, if the operator did not choose the columns. ``majors``: the versions of PostgreSQL on both sides.
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


def binary_refusal(
    given: Sequence[Column], there: Sequence[Column], *, majors: tuple[int, int] = _LATEST
) -> str | None:
    """Say why `given` columns cannot be copied in binary; None if they can.

    Call `match_refusal` first. ``majors``: as there.
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
                f"column {column.name} is {column.type}, whose binary form has oids of types, "
                "which PostgreSQL 13 compares with its own"
            )
        if min(majors) < 17 <= max(majors) and _holds_intervals(column):
            return (
                f"column {column.name} is {column.type}, and PostgreSQL before 17 reads binary "
                "infinity as another interval"
            )
    return None


def require_key(
    relation: Relation, wanted: Collection[str] | None, *, given: Iterable[Column]
) -> Key:
    """Return the key of `relation` with the columns `wanted`; None means the primary key.

    Raises CopydError if there is none, or a column of the key is not `given`.
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
            f"its column {', '.join(required)} is NOT NULL, and the source has no such column: "
            "give it a default"
        )
    return None


def _can_store(stored: Column, given: Column) -> bool:
    # Only a guess before the copy: the server still judges each value.
    if not stored.signature or not given.signature:
        return True
    return stored.category == "S" or _reads(stored.signature, given.signature)


def _reads(there: str, given: str) -> bool:
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
    # Fields of a composite value are read by position, so a different order is a mismatch.
    return [name for name, _ in there] == [name for name, _ in given] and all(
        _reads(stored, sent) for (_, stored), (_, sent) in zip(there, given, strict=True)
    )


def _shape(signature: str) -> str:
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
    return "whose fields, types or labels differ at the source"


def _holds_intervals(column: Column) -> bool:
    return re.search(r"\binterval\b", _form(column)) is not None
