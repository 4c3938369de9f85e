"""``copyd``: the group of commands, and the one place where errors become exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 78 bad configuration, 130 on SIGINT,
143 on SIGTERM.
Heavy imports wait until a command needs them, so that help is instant.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from copyd.cli.cluster import cluster
from copyd.cli.copy import copy
from copyd.cli.demo import demo
from copyd.errors import CopydError

if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 130
TERMINATED = 143


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    del parameter
    if not wanted or context.resilient_parsing:
        return
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
    help="Show the versions of copyd, psycopg, libpq and Python.",
)
def copyd() -> None:
    """Keep many PostgreSQL replicas fed from one source by COPY."""


copyd.add_command(cluster)
copyd.add_command(copy)
copyd.add_command(demo)


def main() -> NoReturn:
    """Run the command line and exit with its code; an error is one sentence, no traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run())


def _run() -> int:
    try:
        code = copyd.main(prog_name="copyd", standalone_mode=False)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("copyd: interrupted, everything was stopped", err=True)
        code = INTERRUPTED
    except CopydError as error:
        click.echo(f"copyd: {error}", err=True)
        code = 1
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads any more; nothing is left to say
        code = 1
    except Exception as error:
        if not _is_servers(error):
            raise  # a defect of ours: the traceback is what a report needs
        click.echo(f"copyd: {' '.join(str(error).split())}", err=True)
        code = 1
    return code if isinstance(code, int) else 0


def _is_servers(error: Exception) -> bool:
    """Whether a PostgreSQL server or libpq said so; psycopg is imported already then."""
    psycopg = sys.modules.get("psycopg")
    return psycopg is not None and isinstance(error, psycopg.Error)


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like an exception, so that servers are stopped and COPY is aborted."""
    del number, frame
    raise SystemExit(TERMINATED)
