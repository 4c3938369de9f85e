"""Asks a running daemon through its control socket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

WITHIN = 35.0
"""Seconds; a little more than the daemon gives itself."""


def ask(path: Path, command: str, **more: object) -> dict[str, Any]:
    """Ask the daemon of the configuration file at `path`; raises CopydError where it refuses."""
    from copyd.config import runtime_directory
    from copyd.daemon import control

    folder = runtime_directory(path, environ=os.environ, is_root=os.geteuid() == 0)
    return control.ask(folder / control.NAME, {"command": command, **more}, within=WITHIN)
