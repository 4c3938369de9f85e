"""The installed program as a person runs it: a process, its output, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = (sys.executable, "-m", "copyd")


def environment(**more: str) -> dict[str, str]:
    """The caller's environment without libpq's variables."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return {**kept, "COLUMNS": "200", **more}


def start(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    # A test run in the background hands an ignored SIGINT down; people at terminals do not.
    return subprocess.Popen(
        ["/usr/bin/env", "--default-signal=INT,TERM", *PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**(env or {})),
    )


def run(
    *arguments: str, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, *PROGRAM, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        env=environment(**(env or {})),
    )
