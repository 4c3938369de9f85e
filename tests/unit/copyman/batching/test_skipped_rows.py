"""Statements that have PostgreSQL skip rows, and values as its text format writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.copyman.batching.skipped_rows import skipping_copy, unescape

SKIPS = b"ON_ERROR ignore, LOG_VERBOSITY verbose"


@pytest.mark.parametrize(
    ("statement", "skips"),
    [
        (b"COPY t FROM STDIN", b"COPY t FROM STDIN (%s)"),
        (b"copy t from stdin\n", b"copy t from stdin (%s)"),
        (b'COPY s."from stdin" (a, b) FROM STDIN', b'COPY s."from stdin" (a, b) FROM STDIN (%s)'),
        (b"COPY t FROM STDIN (FREEZE)", b"COPY t FROM STDIN (FREEZE, %s)"),
        (b"COPY t FROM STDIN WITH (FORMAT text)", b"COPY t FROM STDIN WITH (FORMAT text, %s)"),
        (b"COPY t FROM STDIN WITH", b"COPY t FROM STDIN WITH (%s)"),
        (b"COPY t FROM STDIN;", None),
        (b"COPY t FROM STDIN WHERE a > 3", None),
        (b"COPY t FROM STDIN NULL 'x'", None),
        (b"COPY t FROM STDIN (DELIMITER ',')", None),
        (b"COPY t FROM STDIN (NULL 'x')", None),
        (b"COPY t FROM STDIN (ENCODING 'latin1')", None),
        (b"COPY t FROM STDIN (ON_ERROR stop)", None),
        (b"COPY t FROM STDIN (FORMAT csv)", None),
        (b"COPY t FROM '/some/file'", None),
        (b"SELECT 1", None),
    ],
)
def test_a_plain_statement_is_given_the_options_and_any_other_is_left_alone(
    statement: bytes, skips: bytes | None
) -> None:
    assert skipping_copy(statement) == (None if skips is None else skips % SKIPS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("plain", "plain"),
        (r"a\tb\nc\\d", "a\tb\nc\\d"),
        (r"\b\f\r\v", "\b\f\r\v"),
        (r"\x41\x4g", "A\x04g"),
        (r"\101\60x", "A0x"),
        (r"\x", "x"),
        (r"\q\.", "q."),
        (r"\\n", r"\n"),
        (r"\\\n", "\\\n"),
    ],
)
def test_escapes_stand_for_what_postgresql_says_they_do(field: str, value: str) -> None:
    assert unescape(field) == value


@given(st.text())
def test_what_a_server_escapes_is_what_was_there(value: str) -> None:
    escapes = {
        "\\": "\\\\",
        "\b": r"\b",
        "\f": r"\f",
        "\n": r"\n",
        "\r": r"\r",
        "\t": r"\t",
        "\v": r"\v",
    }
    assert unescape("".join(escapes.get(each, each) for each in value)) == value
