"""``copyd schema``: the configuration's JSON Schema, or a page of all keys."""

from __future__ import annotations

import click

from copyd.cli.console import say, say_json


@click.command(short_help="Print the JSON Schema of the configuration file.")
@click.option("--markdown", "is_page", is_flag=True, help="Print a page of all keys instead.")
def schema(is_page: bool) -> None:
    """Print the JSON Schema of the configuration file.

    Editors with support for TOML use it to complete keys and to check values.
    """
    from copyd.config import json_schema, markdown

    if is_page:
        say(markdown().rstrip("\n"))
    else:
        say_json(json_schema())
