"""The one table of SQLSTATE classes, and the line that COPY names."""

from __future__ import annotations

import pytest
from psycopg import errors

from copyd.server_errors import CLASSES, Blame, ErrorClass, Message, class_of, copy_line


def test_every_class_is_a_class_that_psycopg_knows() -> None:
    states = (getattr(each, "sqlstate", None) for each in vars(errors).values())
    known = {state[:2] for state in states if isinstance(state, str)}
    assert set(CLASSES) <= known


@pytest.mark.parametrize(("name", "row"), CLASSES.items())
def test_states_that_pass_belong_to_their_class(name: str, row: ErrorClass) -> None:
    assert all(state.startswith(name) for state in row.transient)


@pytest.mark.parametrize(("name", "row"), CLASSES.items())
def test_the_message_of_an_error_that_a_row_causes_may_quote_it(name: str, row: ErrorClass) -> None:
    assert row.blame is not Blame.ROW or row.message is Message.VALUES, name


def test_a_class_without_a_row_in_the_table_is_of_no_kind_and_does_not_pass() -> None:
    assert class_of("72000") == ErrorClass("other", Blame.RAISED, Message.VALUES, ())


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ('COPY t, line 7, column x: "a"', 7),
        ("COPY t, line 7, column x: null input", 7),
        ('COPY t, line 12: "1\tb"', 12),
        ("COPY t, line 3", 3),
        ('COPY a, b, c, line 7: "x"', 7),
        ('COPY t, line 7, column x: "y, line 9: z"', 7),
        ('COPY t, line 7: "1, line 9, column x"', 7),
        ("COPY t, Zeile 7, Spalte x: »a«", 7),
        ("COPY t, 行 7: «a»", 7),
        ("COPY t, ligne 7, colonne x : « a »", 7),
        ("COPY t, línea 7", 7),
        ('COPY t, строка 7, столбец x: "a"', 7),
        ('PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 41: "1"', 41),
        ('SQL statement "INSERT"\nPL/pgSQL function f() line 3 at SQL statement\nCOPY t, line 5', 5),
        ('SQL statement "COPY u, line 2"\nCOPY t, line 5', 5),
        ("COPY t, line", None),
        ("PL/pgSQL function f() line 3 at RAISE", None),
        ("", None),
        (None, None),
    ],
)  # fmt: skip
def test_the_line_is_the_one_that_copy_names_in_whatever_language(
    context: str | None, line: int | None
) -> None:
    assert copy_line(context) == line
