"""``copyd schema``: the configuration's JSON Schema, for editors."""

from __future__ import annotations

import json

import click

from copyd.cli.console import say


@click.command(short_help="Print the JSON Schema of the configuration file.")
def schema() -> None:
    """Print the JSON Schema of the configuration file.

    Editors that know TOML use it to complete keys and to check values as one types.
    """
    from copyd.config import json_schema

    say(json.dumps(json_schema(), indent=2))
