"""From TOML's values to the model, with all errors at once.

pydantic reports all errors of single keys together, but then gives no model. To judge the rules
between keys all the same, each wrong value is replaced by a valid one, and problems that rest on it
are left out.
"""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from copyd.config.model import Config, Section
from copyd.config.problems import KeyPath, Problem, kind, shown, spelled, suggestion
from copyd.config.rules import judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import TypeGuard

    from pydantic_core import ErrorDetails

Table = dict[str, object]

_EXPECTED = {
    "string_type": "a string",
    "string_sub_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "mapping_type": "a table",
    "dict_type": "a table",
    "model_type": "a table",
}
ANY_NAME = "NAME"  # a placeholder, in a path of the model, for a section's name in the file

_STAND_INS: Mapping[tuple[str | int, str], object] = {
    ("clusters", "data_directory"): "x",
    ("transfers", "source"): "x",
    ("transfers", "destinations"): ["x"],
}
"""Valid values for keys without a default, by section and key."""


def read(raw: Table, folder: Path) -> tuple[Config, list[Problem]]:
    """Make the model of `raw`, usable if there are no problems; paths are relative to `folder`."""
    # Decision: pydantic reads the configuration
    problems: list[Problem] = []
    broken: list[KeyPath] = []
    try:
        config = Config.model_validate(raw, context=folder)
    except ValidationError as error:
        mended = deepcopy(raw)
        found = [(_path_of(details), details) for details in error.errors(include_url=False)]
        problems = [_explain(details, path) for path, details in found]
        broken = [path for path, details in found if details["type"] != "extra_forbidden"]
        # The innermost first: mending an outer table may remove the inner ones.
        for path in sorted({path for path, _ in found}, key=len, reverse=True):
            _mend(mended, path)
        config = Config.model_validate(mended, context=folder)
    problems += [problem for problem in judge(config) if not problem.rests_on(broken)]
    return config, sorted(problems, key=lambda problem: problem.order)


def _path_of(details: ErrorDetails) -> KeyPath:
    path = details["loc"]
    return path[:-1] if path[-1] == "[key]" else path


def _explain(details: ErrorDetails, path: KeyPath) -> Problem:
    sort = details["type"]
    if sort == "extra_forbidden":
        return Problem(path, f"unknown key{_nearest_key(path)}")
    if sort == "missing":
        return Problem(path, "expected a value; this key has no default")
    if sort == "value_error":
        return Problem(path, str(details["ctx"]["error"]))
    value = details["input"]
    is_private = path[0] == "servers"
    got = kind(value) if is_private else shown(value)
    return Problem(path, f"expected {_expectation(details)}, got {got}{_nearest_value(details)}")


def _expectation(details: ErrorDetails) -> str:
    sort, context = details["type"], details.get("ctx", {})
    if sort == "literal_error":
        return str(context["expected"]).replace("'", '"')
    if sort == "greater_than_equal":
        return f"at least {context['ge']}"
    if sort == "less_than_equal":
        return f"at most {context['le']:g}"
    return _EXPECTED[sort]


def _nearest_value(details: ErrorDetails) -> str:
    if details["type"] != "literal_error":
        return ""
    return suggestion(details["input"], re.findall(r"'([^']*)'", details["ctx"]["expected"]))


def _nearest_key(path: KeyPath) -> str:
    *table, key = path
    known = sections()
    here = next(place for place in known if _is_at(table, place))
    near = suggestion(key, known[here].model_fields)
    elsewhere = [place for place, section in known.items() if key in section.model_fields]
    if near or not elsewhere:
        return near
    places = [f"in [{spelled(place)}]" if place else "at the top" for place in elsewhere]
    return f" here; it belongs {' or '.join(places)}"


def _is_at(table: list[str | int], place: KeyPath) -> bool:
    return len(table) == len(place) and all(
        part in {ANY_NAME, mine} for part, mine in zip(place, table, strict=True)
    )


@cache
def sections() -> Mapping[KeyPath, type[Section]]:
    """Return the model's sections by path, with `ANY_NAME` for names that authors choose."""
    return dict(_walk(Config, ()))


def _walk(section: type[Section], path: KeyPath) -> Iterator[tuple[KeyPath, type[Section]]]:
    yield path, section
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            yield from _walk(field.annotation, (*path, name))
        for argument in get_args(field.annotation):
            if _is_section(argument):
                yield from _walk(argument, (*path, name, ANY_NAME))


def _is_section(annotation: object) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type(Section))  # Python 3.10 takes tuple[str] for a type


def _mend(raw: Table, path: KeyPath) -> None:
    *above, last = path
    holder: Any = raw  # a table or a list: pydantic has found the path
    for part in above:
        holder = holder[part]
    if isinstance(last, int):
        holder[last] = "x.x" if above[-1] == "tables" else "x"
    elif (path[0], last) in _STAND_INS and len(path) == 3:
        holder[last] = deepcopy(_STAND_INS[path[0], last])
    else:
        holder.pop(last, None)
