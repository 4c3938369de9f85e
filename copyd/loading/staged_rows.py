"""Temporary staging tables, and the statements to apply their rows by key; pure.

Keys are compared by the operators of the key's own index. No name is looked up in a schema with
objects of other roles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from copyd.loading.target import copy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.loading.target import Target

_COMMA = sql.SQL(", ")
# PostgreSQL documentation, "Data-Modifying Statements in WITH", leaves the order of execution open: a
# part that must come second counts the rows of the first. They form a single statement, because
# foreign keys are checked at its end, and new rows may reference one another.
_ABSENT = """NOT EXISTS (SELECT FROM {rows} AS target WHERE {same_key})"""
_UPSERT = """
WITH updated AS (
    {update}
), inserted AS (
    INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {staged_columns} FROM {stage} AS staged
     WHERE {absent} AND (SELECT pg_catalog.count(*) FROM updated) OPERATOR(pg_catalog.>=) 0
    RETURNING 1
)
SELECT (SELECT pg_catalog.count(*) FROM inserted), (SELECT pg_catalog.count(*) FROM updated), 0
"""
_UPDATE = """UPDATE {rows} AS target SET {assignments} FROM {stage} AS staged
     WHERE {same_key} AND {differs} RETURNING 1"""
_NOTHING = sql.SQL("SELECT WHERE false")
_REWRITE = """
WITH changed AS (
    DELETE FROM {rows} AS target USING {stage} AS staged
     WHERE {same_key} AND {differs} RETURNING {kept}
), removed AS (
    {remove}
), cleared AS (
    SELECT (SELECT pg_catalog.count(*) FROM changed)
           OPERATOR(pg_catalog.+) (SELECT pg_catalog.count(*) FROM removed) AS rows
), updated AS (
    INSERT INTO {table} ({all_columns}) OVERRIDING SYSTEM VALUE
    SELECT {all_values} FROM {stage} AS staged JOIN changed AS target ON {same_key}
     WHERE (SELECT rows FROM cleared) OPERATOR(pg_catalog.>=) 0 RETURNING 1
), inserted AS (
    INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {staged_columns} FROM {stage} AS staged
     WHERE {absent} AND (SELECT rows FROM cleared) OPERATOR(pg_catalog.>=) 0 RETURNING 1
)
SELECT (SELECT pg_catalog.count(*) FROM inserted), (SELECT pg_catalog.count(*) FROM updated),
       (SELECT pg_catalog.count(*) FROM removed)
"""


def stage(target: Target) -> sql.Composed:
    """Create a staging table: the copied columns of `target`, without constraints or defaults."""
    return _create(_stage(target), target, target.names)


def stage_keys(target: Target) -> sql.Composed:
    """Create a staging table for the keys of the source's rows."""
    return _create(_key_stage(target), target, target.required_key.columns)


def copy_into_stage(target: Target, *, format: str) -> sql.Composed:  # noqa: A002 - COPY's own word
    """COPY into the staging table."""
    return copy(_stage(target), target.names, format=format)


def copy_keys(target: Target, *, format: str) -> sql.Composed:  # noqa: A002 - COPY's own word
    """COPY into the staging table of keys."""
    return copy(_key_stage(target), target.required_key.columns, format=format)


def analyze(target: Target) -> sql.Composed:
    """ANALYZE the staging table, because autovacuum cannot see temporary tables."""
    return _analyze(_stage(target), target)


def analyze_keys(target: Target) -> sql.Composed:
    """ANALYZE the staged keys."""
    return _analyze(_key_stage(target), target)


def number_rows(target: Target, trial: Target) -> tuple[sql.Composed, ...]:
    """Number the staged rows from 0 in the order of the COPY; create an empty stage for `trial`."""
    number = sql.SQL(
        "CREATE TEMPORARY TABLE {order} ON COMMIT DROP AS"
        " SELECT pg_catalog.row_number() OVER (ORDER BY ctid)"
        " OPERATOR(pg_catalog.-) 1 AS number, ctid AS at FROM {stage}"
    ).format(order=_order(target), stage=_stage(target))
    index = sql.SQL("CREATE UNIQUE INDEX ON {} (number)").format(_order(target))
    return number, index, sql.SQL("ANALYZE {}").format(_order(target)), stage(trial)


def same_keys(target: Target, trial: Target) -> sql.Composed:
    """Stage the keys of `target` for `trial`, unless an earlier trial did and was not rolled back."""
    return sql.SQL(
        "CREATE TEMPORARY TABLE IF NOT EXISTS {} ON COMMIT DROP AS SELECT * FROM {}"
    ).format(_key_stage(trial), _key_stage(target))


def count_numbered(target: Target) -> sql.Composed:
    """Count the numbered rows."""
    return sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(_order(target))


def empty(target: Target) -> sql.Composed:
    """Empty the staging table."""
    return sql.SQL("TRUNCATE {}").format(_stage(target))


def fill(trial: Target, target: Target, start: int, stop: int) -> sql.Composed:
    """Stage for `trial` the rows of `target` from number `start` up to `stop`."""
    return sql.SQL(
        "INSERT INTO {} SELECT staged.* FROM {} AS numbered JOIN {} AS staged"
        " ON staged.ctid OPERATOR(pg_catalog.=) numbered.at"
        " WHERE numbered.number OPERATOR(pg_catalog.>=) {}"
        " AND numbered.number OPERATOR(pg_catalog.<) {} ORDER BY numbered.number"
    ).format(_stage(trial), _order(target), _stage(target), sql.Literal(start), sql.Literal(stop))


def copy_out_row(target: Target, number: int) -> sql.Composed:
    """COPY a staged row out, as text."""
    return sql.SQL(
        "COPY (SELECT staged.* FROM {} AS numbered JOIN {} AS staged"
        " ON staged.ctid OPERATOR(pg_catalog.=) numbered.at"
        " WHERE numbered.number OPERATOR(pg_catalog.=) {}) TO STDOUT"
    ).format(_order(target), _stage(target), sql.Literal(number))


def insert_absent(target: Target) -> sql.Composed:
    """Insert the staged rows with new keys."""
    return sql.SQL(
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
        " SELECT {staged_columns} FROM {stage} AS staged WHERE {absent}"
    ).format(**_parts(target))


def insert_all(target: Target) -> sql.Composed:
    """Insert all staged rows."""
    return sql.SQL(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS staged"
    ).format(
        target.relation.identifier,
        _listed(target.names),
        _COMMA.join(_qualified("staged", target.names)),
        _stage(target),
    )


def upsert(target: Target) -> sql.Composed:
    """Update rows which differ, then insert the absent; returns rows inserted, updated, and 0."""
    parts = _parts(target)
    assignments = [  # UPDATE cannot set a column GENERATED ALWAYS AS IDENTITY
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier("staged", name))
        for name in (column.name for column in target.columns if column.identity != "a")
    ]
    update = sql.SQL(_UPDATE).format(assignments=_COMMA.join(assignments), **parts)
    return sql.SQL(_UPSERT).format(update=update if assignments else _NOTHING, **parts)


def rewrite(target: Target, *, removes: bool) -> sql.Composed:
    """Delete rows which differ, insert their new versions, then the absent.

    Columns which are not copied keep their values. ``removes``: includes `delete_missing`. Returns
    rows inserted, updated, removed.
    """
    # Decision: Rows that swap unique values are deleted and inserted
    kept = [*target.required_key.columns, *target.others]
    values = [*_qualified("staged", target.names), *_qualified("target", target.others)]
    remove = sql.SQL("{} RETURNING 1").format(delete_missing(target)) if removes else _NOTHING
    return sql.SQL(_REWRITE).format(
        kept=_COMMA.join(_qualified("target", kept)),
        all_columns=_listed([*target.names, *target.others]),
        all_values=_COMMA.join(values),
        remove=remove,
        **_parts(target),
    )


def delete_missing(target: Target) -> sql.Composed:
    """Delete the rows whose key is not staged."""
    return sql.SQL(
        "DELETE FROM {rows} AS target"
        " WHERE NOT EXISTS (SELECT FROM {keys} AS staged WHERE {same_key})"
    ).format(keys=_key_stage(target), **_parts(target))


def count_doubles(target: Target) -> sql.Composed:
    """Count the keys with several staged rows."""
    return sql.SQL(
        "SELECT pg_catalog.count(*) FROM (SELECT FROM {stage} AS staged GROUP BY {key}"
        " HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1) AS doubles"
    ).format(key=_COMMA.join(_qualified("staged", target.required_key.columns)), **_parts(target))


def count_changed(target: Target) -> sql.Composed:
    """Count the rows which differ from their staged versions."""
    return sql.SQL(
        "SELECT pg_catalog.count(*) FROM {rows} AS target, {stage} AS staged"
        " WHERE {same_key} AND {differs}"
    ).format(**_parts(target))


def count_missed(target: Target, *, column: str, bound: sql.Composable) -> sql.Composed:
    """Count the staged rows below `bound`, or with NULL, which are absent or differ in the table."""
    return sql.SQL(
        "SELECT pg_catalog.count(*) FROM {stage} AS staged"
        " WHERE ({column} OPERATOR(pg_catalog.<) {bound} OR {column} IS NULL) AND NOT EXISTS"
        " (SELECT FROM {rows} AS target WHERE {same_key} AND NOT {differs})"
    ).format(column=sql.Identifier("staged", column), bound=bound, **_parts(target))


def _parts(target: Target) -> dict[str, sql.Composable]:
    key = target.required_key
    same_key = sql.SQL(" AND ").join(
        sql.SQL("{} {} {}").format(
            sql.Identifier("target", name), sql.SQL(operator), sql.Identifier("staged", name)
        )
        for name, operator in zip(key.columns, key.operators, strict=True)
    )
    # Decision: Staged rows are compared by their image
    differs = sql.SQL(
        "ROW({})::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW({})::pg_catalog.record"
    ).format(*(_COMMA.join(_qualified(row, target.names)) for row in ("target", "staged")))
    return {
        "table": target.relation.identifier,
        "rows": target.rows,
        "stage": _stage(target),
        "columns": _listed(target.names),
        "staged_columns": _COMMA.join(_qualified("staged", target.names)),
        "same_key": same_key,
        "differs": differs,
        "absent": sql.SQL(_ABSENT).format(rows=target.rows, same_key=same_key),
    }


def _stage(target: Target) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"copyd_rows_{target.number}")


def _order(target: Target) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"copyd_order_{target.number}")


def _key_stage(target: Target) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"copyd_keys_{target.number}")


def _create(table: sql.Identifier, target: Target, columns: Iterable[str]) -> sql.Composed:
    # AS copies types with their modifiers and collations, and nothing else.
    return sql.SQL(
        "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA"
    ).format(table, _listed(columns), target.rows)


def _analyze(table: sql.Identifier, target: Target) -> sql.Composed:
    return sql.SQL("ANALYZE {} ({})").format(table, _listed(target.required_key.columns))


def _listed(names: Iterable[str]) -> sql.Composed:
    return _COMMA.join(map(sql.Identifier, names))


def _qualified(row: str, names: Iterable[str]) -> list[sql.Identifier]:
    return [sql.Identifier(row, name) for name in names]
