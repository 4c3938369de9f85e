"""``copyd schema``: the configuration's JSON Schema, for editors, or all its keys, for people."""

from __future__ import annotations

import json

import click

from copyd.cli.console import say


@click.command(short_help="Print the JSON Schema of the configuration file.")
@click.option("--markdown", "is_page", is_flag=True, help="Print a page of all keys instead.")
def schema(is_page: bool) -> None:
    """Print the JSON Schema of the configuration file.

    Editors that know TOML use it to complete keys and to check values while you type.
    """
    if is_page:
        from copyd.config import markdown

        say(markdown().rstrip("\n"))
        return
    from copyd.config import json_schema

    say(json.dumps(json_schema(), indent=2))
