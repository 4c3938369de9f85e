"""The exit codes of all commands but ``cluster``, whose codes are pg_ctl's."""

from __future__ import annotations

from copyd.errors import CopydError, SetupError

FAILED = 1
PARTLY = 3
NOT_COMPARED = 4
BAD_CONFIGURATION = 78
INTERRUPTED = 130
TERMINATED = 143

OF_VERDICT = {"succeeded": 0, "failed": FAILED, "partial": PARTLY, "unknown": PARTLY}
OF_LIKENESS = {"equal": 0, "differs": FAILED, "not compared": NOT_COMPARED}


def of_error(error: CopydError) -> int:
    """Return the exit code of a command that ends with `error`."""
    return BAD_CONFIGURATION if isinstance(error, SetupError) else FAILED
