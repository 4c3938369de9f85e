"""``copyd rejects``: rows refused by destinations, with the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from copyd.cli.assembly import choose, config_option, destination_option, open_config
from copyd.cli.console import deliver, make_console, say
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from copyd.loading.rejects import KeptTable


@click.group()
def rejects() -> None:
    """Show rejected rows (on_error = "resume_next")."""


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for add in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else."),
        click.option(
            "--run", "run", metavar="RUN", help="Only this run; the start of its id is enough."
        ),
        destination_option("Show"),
        config_option,
        click.argument("name", metavar="TRANSFER"),
    ):
        command = add(command)
    return command


@rejects.command("list", short_help="A line for each table of each run.")
@_options
def list_(name: str, path: Path, only: tuple[str, ...], run: str | None, as_json: bool) -> None:
    """Count the rejects of TRANSFER by run, destination, table and SQLSTATE.

    Pending rejects are from a run in progress, or from a run whose COMMIT is in doubt.

    Exit codes: 0 even without rejects, 1 the files cannot be read, 2 wrong usage, 78 bad
    configuration, 130 interrupted, 143 ended by SIGTERM.
    """
    from copyd.cli.views import rejects

    _, found = _find(name, path, only, run)
    if as_json:
        say(rejects.as_json(map(rejects.table_document, found)))
    elif found:
        console = make_console()
        deliver(lambda: console.print(rejects.table(found)))
    else:
        say(f"transfer {name} has no rejects")


@rejects.command(short_help="The rows and their reasons.")
@_options
def show(name: str, path: Path, only: tuple[str, ...], run: str | None, as_json: bool) -> None:
    """Show the rejects of TRANSFER: each row as received, and the server's message.

    Control characters are escaped here, but not in the files.

    Exit codes: see list.
    """
    from copyd.cli.views import rejects
    from copyd.loading.rejects import rows

    root, found = _find(name, path, only, run)
    try:
        if as_json:
            documents = [
                rejects.row_document(each, row) for each in found for row in rows(root, each)
            ]
            say(rejects.as_json(documents))
            return
        told = (line for each in found for line in rejects.lines(each, rows(root, each)))
        first = next(told, None)
        if first is None:
            say(f"transfer {name} has no rejects")
            return
        text = "\n".join([first, *told])
    except OSError as error:
        raise _unreadable(root, error) from error
    say(text)


def _find(
    name: str, path: Path, only: Sequence[str], run: str | None
) -> tuple[Path, list[KeptTable]]:
    from copyd.loading.rejects import kept

    config = open_config(path)
    choose(config, name, only)
    root = config.reject_directory_of(name)
    try:
        found = [each for each in kept(root, name) if not only or each.destination in only]
    except OSError as error:
        raise _unreadable(root, error) from error
    if run is None:
        return root, found
    runs = {each.run for each in found if each.run.startswith(run)}
    if len(runs) != 1:
        which = "no run that begins" if not runs else f"{len(runs)} runs that begin"
        raise click.UsageError(f"transfer {name} has rejects of {which} with {run}")
    return root, [each for each in found if each.run in runs]


def _unreadable(root: Path, error: OSError) -> CopydError:
    return CopydError(f"rejects below {root} cannot be read: {error.strerror}")
