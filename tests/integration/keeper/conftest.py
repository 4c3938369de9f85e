from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.keepers import Home, open_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from copyd.cluster import Installation


@pytest.fixture
def home(folder: Path, installation: Installation) -> Iterator[Home]:
    """The daemon's directories, with keepers that wait for little; servers are gone at the end."""
    with open_home(folder, installation) as opened:
        yield opened
