"""Exit codes; ``cluster`` has those of pg_ctl instead."""

from __future__ import annotations

from copyd.errors import CopydError, SetupError

FAILED = 1
PARTLY = 3
NOT_COMPARED = 4
BAD_CONFIGURATION = 78  # EX_CONFIG in sysexits.h: systemd does not restart the daemon
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
TERMINATED = 143

OF_VERDICT = {"succeeded": 0, "failed": FAILED, "partial": PARTLY, "unknown": PARTLY}
OF_LIKENESS = {"equal": 0, "differs": FAILED, "not compared": NOT_COMPARED}


def of_error(error: CopydError) -> int:
    """Return the exit code of a command that fails with `error`."""
    return BAD_CONFIGURATION if isinstance(error, SetupError) else FAILED
