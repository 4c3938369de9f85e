"""Standard output of all commands: lines, tables, JSON; what to do if it cannot be written."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

WIDE = 10_000


def make_console() -> Console:
    """Return a console for standard output; only on a terminal does it wrap lines."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - rich would exit with 1, whatever the run's exit code is

    width = None if _is_open() and sys.stdout.isatty() else WIDE
    return PlainConsole(highlight=False, emoji=False, width=width)


def say(text: str) -> None:
    """Print lines, as `deliver` does."""
    deliver(lambda: click.echo(text))


def say_json(document: object) -> None:
    """Print one JSON document, as `deliver` does."""
    say(json.dumps(document, ensure_ascii=False, indent=2))


def show(renderable: RenderableType) -> None:
    """Print a table or the like, as `deliver` does."""
    console = make_console()
    deliver(lambda: console.print(renderable))


def deliver(write: Callable[[], None]) -> None:
    """Call `write`, which prints a report; an output error does not change the exit code.

    The error is printed to standard error. A closed standard output is no error.
    """
    try:
        write()
        if _is_open():
            sys.stdout.flush()
    except (OSError, UnicodeError) as error:
        click.echo(f"copyd: the report could not be written: {error}", err=True)
        if _is_open():
            # Python flushes standard output at exit, which would fail again with code 120.
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _is_open() -> bool:
    stdout: object = sys.stdout  # None if the descriptor was closed when Python started
    return stdout is not None
