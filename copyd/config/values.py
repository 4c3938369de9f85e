"""Types of single values, each with a sentence for a value that does not fit."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    Strict,
    ValidationInfo,
    WithJsonSchema,
)

from copyd import conninfo
from copyd.config import units
from copyd.config.problems import kind, shown
from copyd.errors import CopydError
from copyd.names import Pattern as TablePattern
from copyd.names import TableName as QualifiedName
from copyd.names import parse_identifier, parse_table_name

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")

DAY = 86_400.0
LONGEST_WAIT = 7 * DAY  # poll() accepts at most 24 days
LONGEST_INTERVAL = 366 * DAY
LABEL = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"
_LABEL_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")
FIXED_SETTINGS = ("config_file", "data_directory", "external_pid_file", "hba_file", "ident_file")
"""Settings for the places of files that copyd reads."""
OVERLAP_EXPECTED = '"all", a duration such as "1h", or a whole number'


def _refused(expected: str, value: object) -> ValueError:
    return ValueError(f"expected {expected}, got {shown(value)}")


def _table_text(text: str) -> str:
    _read_table_name(text)
    return text


def _from_text(parse: Callable[[str], Value], expected: str) -> Callable[[object], Value]:
    def read(value: object) -> Value:
        if not isinstance(value, str):
            raise _refused(expected, value)
        try:
            return parse(value)
        except CopydError as error:
            if shown(value) == kind(value):
                raise _refused(expected, value) from None
            raise ValueError(str(error)) from None

    return read


_read_table_name = _from_text(parse_table_name, "a table written as SCHEMA.TABLE")


def _duration(*, longest: float, may_be_zero: bool = False) -> Callable[[object], float]:
    def read(value: object) -> float:
        try:
            seconds = units.parse_duration(value) if isinstance(value, str) else None
        except ValueError:
            seconds = None
        if seconds is None:
            raise _refused(units.EXPECTED_DURATION, value)
        if seconds > longest:
            raise _refused(f"at most {units.spell_duration(longest)}", value)
        if not (seconds or may_be_zero):
            raise _refused("a duration above zero", value)
        return seconds

    return read


def _size(value: object) -> int:
    try:
        size = units.parse_size(value) if isinstance(value, str) else None
    except ValueError:
        size = None
    if size is None:
        raise _refused(units.EXPECTED_SIZE, value)
    if not size:
        raise _refused("a size above zero", value)
    return size


def _overlap(value: object) -> Literal["all"] | timedelta | int:
    if value == "all":
        return "all"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    try:
        if isinstance(value, str):
            return timedelta(seconds=units.parse_duration(value))
    except (ValueError, OverflowError):
        pass
    raise _refused(OVERLAP_EXPECTED, value)


def _cron(value: object) -> str:
    if not isinstance(value, str):
        raise _refused('a cron expression such as "*/5 * * * *"', value)
    try:
        CronSim(value, datetime.now(timezone.utc))
    except CronSimError as error:
        expected = 'a cron expression such as "*/5 * * * *"'
        raise ValueError(f"expected {expected}, got {shown(value)}: {error}") from None
    return value


def _timezone(value: object) -> str:
    expected = 'the name of a time zone such as "UTC" or "Europe/Berlin"'
    if not isinstance(value, str):
        raise _refused(expected, value)
    try:
        zone_of(value)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise _refused(f"{expected} that is installed here", value) from None
    return value


def zone_of(name: str) -> tzinfo:
    """Return the time zone `name`; UTC works without a time zone database."""
    return timezone.utc if name == "UTC" else ZoneInfo(name)


def address(listen: str) -> tuple[str, int]:
    """Split HOST:PORT, an IPv6 address in brackets; raises ValueError."""
    host, separator, port = listen.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if is_bracketed else host
    is_host = bare and (is_bracketed or ":" not in bare) and not set(bare) & set(" []/@\0")
    if not (separator and is_host and port.isascii() and port.isdecimal() and int(port) < 65_536):
        raise ValueError
    return bare, int(port)


def _listen(value: object) -> str:
    expected = 'HOST:PORT such as "127.0.0.1:9632", or "" to turn the pages off'
    if not isinstance(value, str):
        raise _refused(expected, value)
    try:
        if value:
            address(value)
    except ValueError:
        raise _refused(expected, value) from None
    return value


def _label(text: str) -> str:
    is_plain = set(text) <= _LABEL_CHARACTERS and text[:1] not in {"", ".", "-"}
    if not is_plain or len(text) > 63:
        raise ValueError(
            'expected a name of up to 63 letters, digits, "_", "-" and ".", beginning with a '
            f'letter, a digit or "_", got {shown(text)}'
        )
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a text, got a blank one")
    if "\0" in text:
        raise ValueError("expected a text without NUL characters")
    return text


def _not_empty(items: tuple[Value, ...]) -> tuple[Value, ...]:
    if not items:
        raise ValueError("expected at least one, got an empty list")
    return items


def _path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str):
        raise ValueError(f"expected a path, got {kind(value)}")  # noqa: TRY004 - pydantic's rule
    return Path(info.context or "/") / _not_blank(value)


def _state_path(value: object) -> Path:
    if not isinstance(value, str):
        raise ValueError(f"expected a path, got {kind(value)}")  # noqa: TRY004 - pydantic's rule
    path = Path(_not_blank(value))
    if ".." in path.parts or not path.name:
        raise _refused('a folder below the state directory, without ".."', value)
    return path


def _setting_name(name: str) -> str:
    if not SETTING.fullmatch(name):
        raise _refused("the name of a setting such as work_mem", name)
    if name.lower() in FIXED_SETTINGS:
        raise ValueError(f"expected another setting, as copyd depends on the default of {name}")
    return name


def _setting_value(value: object) -> str | float | bool:
    if not isinstance(value, (str, int, float)):
        raise _refused("a string, a number, true or false", value)
    if isinstance(value, str) and set(value) & set("\n\r\0"):
        raise ValueError("expected a value without line breaks and NUL characters")
    if isinstance(value, float) and not isfinite(value):
        raise _refused("a finite number", value)
    return value


def _conninfo(text: SecretStr) -> SecretStr:
    try:
        conninfo.parse(text.get_secret_value())
    except CopydError as error:
        raise ValueError(str(error)) from None
    return text


_DurationSchema = WithJsonSchema({"type": "string", "pattern": units.DURATION_PATTERN})
_TextSchema = WithJsonSchema({"type": "string"})
_Spelled = PlainSerializer(units.spell_duration)

Interval = Annotated[
    float, PlainValidator(_duration(longest=LONGEST_INTERVAL)), _Spelled, _DurationSchema
]
"""Seconds between two runs or two full scans."""
Wait = Annotated[float, PlainValidator(_duration(longest=LONGEST_WAIT)), _Spelled, _DurationSchema]
"""Seconds to wait, above zero."""
Patience = Annotated[
    float,
    PlainValidator(_duration(longest=LONGEST_WAIT, may_be_zero=True)),
    _Spelled,
    _DurationSchema,
]
"""Seconds to wait, or zero."""
Size = Annotated[
    int,
    PlainValidator(_size),
    PlainSerializer(units.spell_size),
    WithJsonSchema({"type": "string", "pattern": units.SIZE_PATTERN}),
]
"""Bytes, above zero."""
Overlap = Annotated[
    Literal["all"] | timedelta | int,
    PlainValidator(_overlap),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "all"},
                {"type": "string", "pattern": units.DURATION_PATTERN},
                {"type": "integer", "minimum": 0},
            ]
        }
    ),
]
Cron = Annotated[str, PlainValidator(_cron), _TextSchema]
Timezone = Annotated[str, PlainValidator(_timezone), _TextSchema]
Listen = Annotated[str, PlainValidator(_listen), _TextSchema]
Label = Annotated[str, AfterValidator(_label), Field(json_schema_extra={"pattern": LABEL})]
"""The name of a server, cluster or transfer: used in metrics, file names and commands."""
Text = Annotated[str, AfterValidator(_not_blank)]
AbsolutePath = Annotated[Path, PlainValidator(_path), _TextSchema]
StatePath = Annotated[Path, PlainValidator(_state_path), _TextSchema]
"""A folder below the state directory, or an absolute path."""


SettingName = Annotated[str, AfterValidator(_setting_name)]
SettingValue = Annotated[
    str | float | bool,
    PlainValidator(_setting_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Conninfo = Annotated[SecretStr, AfterValidator(_conninfo)]
Identifier = Annotated[
    str,
    PlainValidator(_from_text(parse_identifier, 'a name such as id or "Id"')),
    _TextSchema,
]
TableText = Annotated[str, AfterValidator(_table_text), _TextSchema]
"""A table name as it was written, checked; two texts may name one table."""
TableName = Annotated[
    QualifiedName,
    PlainValidator(_read_table_name),
    _TextSchema,
]
Pattern = Annotated[
    TablePattern,
    PlainValidator(_from_text(TablePattern.parse, "a table or pattern such as sales.*")),
    _TextSchema,
]
# pydantic's own min_length also reports a list whose items are all wrong.
_Filled = AfterValidator(_not_empty)
_FilledSchema = Field(json_schema_extra={"minItems": 1})
_Listed = Strict(strict=False)  # TOML has lists, not tuples

Identifiers = Annotated[tuple[Identifier, ...], _Listed, _Filled, _FilledSchema]
Patterns = Annotated[tuple[Pattern, ...], _Listed, _Filled, _FilledSchema]
References = Annotated[tuple[str, ...], _Listed, _Filled, _FilledSchema]
Statements = Annotated[tuple[Text, ...], _Listed]
