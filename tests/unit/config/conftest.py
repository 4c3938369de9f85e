"""A configuration as text: what it is loaded as, or what is said against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from copyd.config import Config, ConfigError, load

if TYPE_CHECKING:
    from pathlib import Path

Loaded = Callable[[str], Config]
Refused = Callable[[str], list[str]]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """Load a text as root would."""
    file = tmp_path / "config.toml"

    def load_text(text: str) -> Config:
        file.write_text(text)
        return load(file, environ={}, is_root=True)

    return load_text


@pytest.fixture
def refused(loaded: Loaded) -> Refused:
    """Return all that is wrong with a text; it must be something."""

    def problems(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loaded(text)
        return list(caught.value.problems)

    return problems
