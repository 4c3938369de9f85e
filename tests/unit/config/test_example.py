"""config.example.toml is in step with the model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from copyd.config.validation import ANY_NAME, sections
from tests.support import toml

if TYPE_CHECKING:
    from tests.unit.config.conftest import Loaded

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"
LINES = EXAMPLE.read_text().splitlines()
KEY = re.compile(r"(?P<mark># )?(?P<key>[a-z_]+) = (?P<value>.+)")
HEADING = re.compile(r"\[(.+)\]")


class Shown(NamedTuple):
    """A line that shows a key, commented out or not."""

    number: int
    section: tuple[str, ...]
    key: str
    value: object
    is_comment: bool

    @property
    def default(self) -> object:
        return (
            sections()[self.section].model_fields[self.key].get_default(call_default_factory=True)
        )


def read_example() -> list[Shown]:
    found = []
    section: tuple[str, ...] = ()
    for number, line in enumerate(LINES):
        if heading := HEADING.fullmatch(line):
            # Every second part is a name of the author's own; a table's has dots, in quotes.
            parts = re.findall(r"'[^']*'|[^.']+", heading[1])
            section = tuple(ANY_NAME if place % 2 else part for place, part in enumerate(parts))
        elif shown := KEY.fullmatch(line):
            value = toml.parse(f"x = {shown['value']}")["x"]
            found.append(Shown(number, section, shown["key"], value, bool(shown["mark"])))
    return found


SHOWN = read_example()
COMMENTED = [shown for shown in SHOWN if shown.is_comment]


def test_it_loads(loaded: Loaded) -> None:
    assert set(loaded(EXAMPLE.read_text()).transfers) == {"catalog", "orders", "totals"}


@pytest.mark.parametrize("shown", COMMENTED, ids=lambda shown: f"{shown.section}{shown.key}")
def test_a_key_taken_in_changes_something_only_where_there_is_no_default(
    loaded: Loaded, shown: Shown
) -> None:
    lines = list(LINES)
    lines[shown.number] = lines[shown.number].removeprefix("# ")
    has_default = shown.default not in (None, {})
    assert (loaded("\n".join(lines)) == loaded(EXAMPLE.read_text())) is has_default


def test_every_key_of_the_model_is_shown() -> None:
    headings = {shown.section for shown in SHOWN}
    keys = {(*shown.section, shown.key) for shown in SHOWN}
    keys |= {
        (*shown.section, shown.key, each)
        for shown in SHOWN
        if isinstance(shown.value, dict)
        for each in shown.value
    }
    for place, section in sections().items():
        for key in section.model_fields:
            is_section = (*place, key, ANY_NAME) in headings or (*place, key) in headings
            assert is_section or (*place, key) in keys, f"{place}: {key}"


def test_every_default_is_shown() -> None:
    shown = {(*each.section, each.key) for each in COMMENTED}
    for place, section in sections().items():
        for key, field in section.model_fields.items():
            default = field.get_default(call_default_factory=True)
            is_section = (*place, key) in sections() or (*place, key, ANY_NAME) in sections()
            if (
                place[-1:] not in {("reintroduce",), ("breaker",)}
                and not is_section
                and not field.is_required()
            ):
                assert default in (None, {}) or (*place, key) in shown, f"{place}: {key}"


def test_no_line_is_longer_than_a_terminal() -> None:
    assert max(map(len, LINES)) <= 100
