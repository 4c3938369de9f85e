"""Sends requests to a running daemon through its control socket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

WITHIN = 35.0  # seconds for an answer; more than the daemon's own limit


def ask(path: Path, command: str, **more: object) -> dict[str, Any]:
    """Return the answer of the daemon with the configuration file `path`.

    Raises CopydError if no daemon answers, or if it refuses.
    """
    from copyd import control_socket
    from copyd.config import runtime_directory

    folder = runtime_directory(path, environ=os.environ, is_root=os.geteuid() == 0)
    request = {"command": command, **more}
    return control_socket.ask(folder / control_socket.NAME, request, within=WITHIN)
