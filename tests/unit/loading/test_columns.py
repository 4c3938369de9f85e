from __future__ import annotations

from copyd.loading.columns import copied, refusal
from copyd.loading.relations import Column

ID, NAME = Column("id", "integer"), Column("name", "text")


def test_generated_columns_do_not_travel() -> None:
    assert copied([ID, Column("twice", "integer", is_generated=True)]) == (ID,)


def test_columns_match_by_name_whatever_their_order() -> None:
    assert refusal([ID, NAME], [NAME, ID, Column("more", "text")], is_binary=True) is None


def test_names_of_objects_are_refused_in_binary_where_they_are_numbers() -> None:
    for kind in ("regclass", "regtype[]"):
        column = Column("what", kind)
        assert "use the text format" in (refusal([column], [column], is_binary=True) or "")
        assert refusal([column], [column], is_binary=False) is None


def test_a_table_without_columns_is_refused() -> None:
    assert refusal([], [ID], is_binary=False) == "the source has no column to copy"


def test_missing_columns_are_all_named() -> None:
    assert refusal([ID, NAME], [], is_binary=False) == "it has no column id, name"


def test_a_generated_column_cannot_be_written() -> None:
    there = Column("id", "integer", is_generated=True)
    assert "generated" in (refusal([ID], [there], is_binary=False) or "")


def test_other_types_are_refused_in_binary_and_left_to_the_server_in_text() -> None:
    there = Column("id", "bigint")
    assert "use the text format" in (refusal([ID], [there], is_binary=True) or "")
    assert refusal([ID], [there], is_binary=False) is None
