"""Where commands write for people, and what happens when nobody can read it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

WIDE = 10_000


def make_console() -> Console:
    """Return a console; off a terminal a line is as long as it is, for programs to search."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - rich would exit here, whatever the work's exit code is

    width = None if _is_open() and sys.stdout.isatty() else WIDE
    return PlainConsole(highlight=False, emoji=False, width=width)


def say(text: str) -> None:
    """Write lines to standard output, as `deliver` does."""
    deliver(lambda: click.echo(text))


def deliver(write: Callable[[], None]) -> None:
    """Write a report of what was done; that it cannot be written does not undo it.

    The exit code stays that of the work, and standard error says what went wrong. Who closed
    standard output wants no report.
    """
    try:
        write()
        if _is_open():
            sys.stdout.flush()
    except (OSError, UnicodeError) as error:
        click.echo(f"copyd: the report could not be written: {error}", err=True)
        _silence()


def _silence() -> None:
    """Throw away what standard output still holds, which would fail again when Python exits."""
    if _is_open():
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _is_open() -> bool:
    """Whether there is a standard output: Python has none where the descriptor was closed."""
    stdout: object = sys.stdout
    return stdout is not None
