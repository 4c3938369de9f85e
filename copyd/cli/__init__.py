"""The command line: arguments in, everything built here."""

from copyd.cli.main import main
