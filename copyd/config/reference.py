"""docs/configuration.md: all keys of a configuration file, from the model that checks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from copyd.config.problems import KeyPath, spelled
from copyd.config.schema import json_schema
from copyd.config.units import DURATION_PATTERN
from copyd.config.validation import ANY_NAME, sections

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from copyd.config.model import Section

    Schema = Mapping[str, Any]

_HEAD = """\
# Configuration

All keys; `copyd schema --markdown` makes this page from the model that checks the file. The default
file is `/etc/copyd/config.toml`. [config.example.toml](../config.example.toml) shows all keys at
work, and `copyd check` names every error in a file at once.

The file is TOML; a key that is not listed here is an error. A duration is a whole number and a unit:
`500ms`, `30s`, `5m`, `24h`, `7d`. A path that does not begin with `/` is relative to the file's
folder. Names of tables and columns are written as in SQL. `NAME` stands for a name of your own.
"""
_DEFINITION = "#/$defs/"


def markdown() -> str:
    """Return docs/configuration.md."""
    definitions: Schema = json_schema()["$defs"]  # type: ignore[assignment] # a JSON object
    pages = [_HEAD]
    for path, section in sections().items():
        if path:
            pages.append("\n".join(_section(path, section, definitions)))
    return "\n".join(pages)


def _section(path: KeyPath, section: type[Section], definitions: Schema) -> Iterator[str]:
    yield f"## [{spelled(path)}]\n"
    yield f"{' '.join((section.__doc__ or '').split())}\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    schema = definitions[section.__name__]
    for key, described in schema["properties"].items():
        if (*path, key) in sections() or (*path, key, ANY_NAME) in sections():
            taken = "a table, below"
        else:
            taken = _taken(described, definitions)
        cells = [f"`{key}`", taken, _default(key, described, schema), described["description"]]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _default(key: str, described: Schema, schema: Schema) -> str:
    if key in schema.get("required", ()):
        return "required"
    default = described.get("default")
    return "none" if default in (None, {}) or isinstance(default, dict) else f"`{_toml(default)}`"


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _taken(described: Schema, definitions: Schema) -> str:
    match described:
        case {"$ref": reference}:
            taken = _taken(definitions[reference.removeprefix(_DEFINITION)], definitions)
        case {"enum": values}:
            taken = ", ".join(f"`{_toml(each)}`" for each in values)
        case {"const": value}:
            taken = f"`{_toml(value)}`"
        case {"anyOf": ways}:
            taken = " or ".join(_taken(each, definitions) for each in ways)
        case {"type": "array", "items": items}:
            taken = f"a list: {_taken(items, definitions)}"
        case {"type": "object", "additionalProperties": values}:
            taken = f"a table: {_taken(values, definitions)}"
        case {"type": [*types]}:
            taken = " or ".join(_PLAIN[each] for each in types)
        case _ if described.get("pattern") == DURATION_PATTERN:
            taken = "a duration"
        case _:
            taken = _PLAIN[described["type"]] + _bounds(described)
    return taken


def _bounds(described: Schema) -> str:
    least, most = described.get("minimum"), described.get("maximum")
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}"
    return f" of at least {least:g}" if least is not None else ""


_PLAIN = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
