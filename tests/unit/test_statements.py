"""Constant SQL stands in described files, each of which is used."""

from __future__ import annotations

import re

from tests.support.statements import PACKAGE, every_file, files_asked_for


def test_every_file_is_asked_for_and_every_file_that_is_asked_for_exists() -> None:
    assert sorted(files_asked_for()) == every_file()


def test_every_file_begins_with_its_name_and_what_it_is() -> None:
    for path in every_file():
        first = path.read_text().partition("\n")[0]
        name = path.relative_to(PACKAGE)
        assert re.match(rf"-- {path.stem}: \S.*", first), f"{name} has no head: -- NAME: its rows"
