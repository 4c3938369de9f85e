from __future__ import annotations

import pytest

from copyd.transfers.source.formats import choose_format


@pytest.mark.parametrize(
    ("types", "refusals", "expected"),
    [
        (["integer", "text"], [None, None], "text"),
        (["integer", "bytea"], [None, None], "binary"),
        (["integer", "bytea"], [None, "column c is regclass"], "text"),
    ],
)
def test_binary_is_for_bytea_where_everybody_can_take_it(
    types: list[str], refusals: list[str | None], expected: str
) -> None:
    assert choose_format("auto", types, refusals).name == expected


def test_the_reason_for_text_is_the_destinations_own() -> None:
    chosen = choose_format("auto", ["bytea"], [None, "column c is regclass"])
    assert chosen == ("text", "column c is regclass")


@pytest.mark.parametrize("wanted", ["text", "binary", "csv"])
def test_what_is_configured_is_used(wanted: str) -> None:
    assert choose_format(wanted, ["bytea"], ["no"]).name == wanted  # type: ignore[arg-type]


def test_rows_that_are_rejected_are_lines_of_text() -> None:
    chosen = choose_format("auto", ["bytea"], [None], has_rejects=True)
    assert chosen == ("text", "rejects are lines of text")
