"""``copyd``: the group of commands; errors become exit codes here and nowhere else.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 not compared, 78 bad configuration,
130 on SIGINT, 143 on SIGTERM.
"""

from __future__ import annotations

import logging
import signal
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, NoReturn

import click

from copyd.cli import exits
from copyd.cli.check import check
from copyd.cli.cluster import cluster
from copyd.cli.copy import copy
from copyd.cli.daemon_commands import pause, reload, resume, trigger
from copyd.cli.demo import demo
from copyd.cli.once import once
from copyd.cli.plan import plan
from copyd.cli.rejects import rejects
from copyd.cli.run import run
from copyd.cli.schema import schema
from copyd.cli.status import history, status
from copyd.cli.verify import verify
from copyd.errors import CopydError

if TYPE_CHECKING:
    from types import FrameType


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    del parameter
    if not wanted or context.resilient_parsing:
        return
    # Decision: Type checking and lint cover the tests, imports may wait in the CLI
    import platform

    import psycopg

    from copyd import __version__

    libpq = psycopg.pq.version()
    click.echo(
        f"copyd {__version__} (psycopg {psycopg.__version__}, libpq {libpq // 10000}."
        f"{libpq % 10000}, Python {platform.python_version()})"
    )
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the versions of copyd, psycopg, libpq and Python.",
)
def copyd() -> None:
    """Keep many PostgreSQL replicas fed from one source by COPY."""


for command in (
    *(run, status, history, trigger, pause, resume, reload),
    *(check, cluster, copy, demo, once, plan, rejects, schema, verify),
):
    copyd.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with its code; print errors as one line, without traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    # A pipeline that is cut warns on standard error; the command's own sentence says what happened.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run())


def _run() -> int:
    try:
        code = _invoke()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except SystemExit as ended:
        if ended.code == exits.TERMINATED:
            click.echo("copyd: terminated", err=True)
        raise
    except (Exception, KeyboardInterrupt) as error:
        explained = explain(error)
        if explained is None:
            raise  # a defect of copyd: a bug report needs the traceback
        sentence, code = explained
        click.echo(f"copyd: {sentence}", err=True)
    return code


def _invoke() -> int:
    for word in sys.argv:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise click.UsageError("an argument is not valid UTF-8") from None
    code = copyd.main(prog_name="copyd", standalone_mode=False)
    return code if isinstance(code, int) else 0


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return a sentence for the operator and the exit code; None for a defect of copyd."""
    psycopg = sys.modules.get("psycopg")  # imported already if the error is psycopg's
    match error:
        case CopydError():
            return str(error), exits.of_error(error)
        case click.Abort() if not isinstance(error.__cause__, KeyboardInterrupt):
            return "nothing was done", 1
        case click.Abort() | KeyboardInterrupt():
            return "interrupted", exits.INTERRUPTED
        case _ if psycopg is not None and isinstance(error, psycopg.Error):
            return " ".join(str(error).split()), 1
        case _:
            return None


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    # An exception unwinds all contexts: servers are stopped and COPY is aborted.
    raise SystemExit(exits.TERMINATED)
