"""The SQL files of the package, and the places that ask for them."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "copyd"


def every_file() -> list[Path]:
    """Return every SQL file."""
    return sorted(PACKAGE.rglob("*.sql"))


def files_asked_for() -> list[Path]:
    """Return the file of every call of `statement`; a file twice that is asked for twice."""
    return [
        PACKAGE.parent / package.replace(".", "/") / "sql" / f"{name}.sql"
        for module in PACKAGE.rglob("*.py")
        for package, name in re.findall(r'\bstatement\("(.+?)", "(\w+)"\)', module.read_text())
    ]
