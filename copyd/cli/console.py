"""Where commands write for people, and what happens when nobody can read it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from rich.console import Console

WIDE = 10_000


def make_console() -> Console:
    """Return a console; off a terminal a line is as long as it is, for programs to search."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - rich would exit here, whatever the work's exit code is

    width = None if sys.stdout.isatty() else WIDE
    return PlainConsole(highlight=False, emoji=False, width=width)


def deliver(write: Callable[[], None]) -> None:
    """Write a report of what was done; that it cannot be written does not undo it.

    The exit code stays that of the work, and standard error says what went wrong.
    """
    try:
        write()
        sys.stdout.flush()
    except (OSError, UnicodeError) as error:
        click.echo(f"copyd: the report could not be written: {error}", err=True)
        silence(sys.stdout)


def silence(stream: TextIO) -> None:
    """Throw away what `stream` still holds, which would fail again when Python exits."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
