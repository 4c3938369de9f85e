"""docs/configuration.md is what the model says."""

from __future__ import annotations

import re
from pathlib import Path

from copyd.config.reference import markdown
from copyd.config.validation import sections

PAGE = Path(__file__).parents[3] / "docs/configuration.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == markdown(), "make it anew: make docs"


def test_every_key_is_on_it() -> None:
    listed = re.findall(r"(?m)^\| `([a-z_]+)`", markdown())
    keys = [key for path, section in sections().items() if path for key in section.model_fields]
    assert sorted(listed) == sorted(keys)
