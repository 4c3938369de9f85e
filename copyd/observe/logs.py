"""The log: a line per event, as JSON or for people, with journald's priorities under systemd.

DestinationDropped is logged as "destination.dropped". Events contain no row values and no secrets;
as a second barrier, passwords in connection strings are masked. Control characters are escaped, so
that they cannot forge a line.
"""

from __future__ import annotations

import json
import logging
import os
import re
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import structlog

from copyd import events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from copyd.events import Event, Observer

_LEVELS: dict[type, str] = {
    events.DataRelayed: "debug",
    events.DestinationDropped: "warning",
    events.DestinationReconciled: "warning",
    events.RowsMissed: "warning",
    events.SourceDropped: "warning",
    events.HorizonHeldBack: "warning",
    events.RunRefused: "error",
    events.RunMissed: "warning",
    events.DestinationOut: "error",
    events.ClusterDown: "error",
    events.ConfigRefused: "error",
    events.HistoryFailed: "error",
    events.ObserverFailed: "error",
}
"""The other events are "info", or have the level of their verdict."""

_VERDICT_LEVELS = {"succeeded": "info", "partial": "warning"}
_COUNTS = ("rows", "size", "read", "loaded", "rejected")
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31"}
_SECRETS = (
    re.compile(r"(?i)((?:password|passwd|sslpassword)\s*[=:]\s*)('(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^\s,;&]+)"),
    re.compile(r"(?i)(postgres(?:ql)?://[^\s:/@]*:)([^\s/]+)(?=@)"),
)  # fmt: skip

# The level in effect; in logging's registry, where a reload can change it for all threads.
_LEVEL = logging.getLogger("copyd.observe.logs")

Fields = dict[str, Any]


def configure(
    *,
    level: str = "info",
    format: str = "auto",  # noqa: A002 - the key's name in the configuration
    stream: TextIO,
    environ: Mapping[str, str],
) -> None:
    """Set the format and level of all later lines; may be called again at any time.

    ``format``: "auto" is "console" on a terminal, else "json". If JOURNAL_STREAM in `environ` names
    `stream`, each line begins with its priority for journald.
    """
    is_terminal = stream.isatty()
    is_plain = format == "console" or (format == "auto" and is_terminal)
    has_colours = is_plain and is_terminal and not environ.get("NO_COLOR")
    render = _console(has_colours=has_colours) if is_plain else _json
    _LEVEL.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _conceal,
            _with_priority(render) if _is_journal(stream, environ) else render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,  # loggers must follow the next `configure`
    )


class Log:
    """An observer that writes a line for each event; a broken stream only loses lines."""

    def __call__(self, event: Event) -> None:
        """Write a line about the daemon."""
        _write(event, {})

    def watch(self, transfer: str) -> Observer:
        """Return the observer of a run, which adds the transfer and the run to each line."""
        context: Fields = {"transfer": transfer}

        def observe(event: Event) -> None:
            if isinstance(event, events.RunStarted):
                context["run"] = event.run
            _write(event, context)

        return observe


def name_of(event: Event) -> str:
    """Return the name of an event in the log: "destination.dropped" for DestinationDropped."""
    first, *rest = re.findall("[A-Z][a-z]*", type(event).__name__)
    return f"{first}.{'_'.join(rest)}".lower()


def level_of(event: Event) -> str:
    """Return the event's log level: "debug", "info", "warning" or "error"."""
    if isinstance(event, events.DestinationEnded | events.RunEnded):
        return _VERDICT_LEVELS.get(event.verdict, "error")
    return _LEVELS.get(type(event), "info")


def concealed(text: str) -> str:
    """Return `text` with passwords in connection strings masked."""
    for secret in _SECRETS:
        text = secret.sub(r"\1***", text)
    return text


def _write(event: Event, context: Fields) -> None:
    level = level_of(event)
    if not _LEVEL.isEnabledFor(getattr(logging, level.upper())):
        return
    line = dict(context)
    for field in fields(event):
        match value := getattr(event, field.name):
            case frozenset():
                line[field.name] = sorted(value)
            case events.Counts():
                line |= {key: getattr(value, key) for key in _COUNTS}
            case _:
                line[field.name] = value
    # The log is the last place to report to: a full disk or a closed pipe loses the line.
    with suppress(OSError, ValueError):
        getattr(structlog.get_logger(), level)(name_of(event), **line)


def _conceal(_logger: object, _method: str, line: Any) -> Any:
    return {key: _concealed_in(value) for key, value in line.items()}


def _concealed_in(value: object) -> object:
    match value:
        case str():
            return concealed(value)
        case tuple() | list():
            return [_concealed_in(each) for each in value]
        case _:
            return value


def _json(_logger: object, _method: str, line: Any) -> str:
    # In ASCII: some readers end a line at U+0085 or U+2028.
    return json.dumps(_in_order(line), default=str)


def _console(*, has_colours: bool) -> Callable[[object, str, Any], str]:
    def render(_logger: object, _method: str, line: Any) -> str:
        time, level, name, *rest = _in_order(line).items()
        shown = f"{level[1]:<7}"
        if has_colours:
            shown = f"\x1b[{_COLOURS[level[1]]}m{shown}\x1b[0m"
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in rest if value is not None)
        return f"{time[1]} {shown} {name[1]:<24} {pairs}".rstrip()

    return render


def _quoted(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[\w.:/+-]+", value, re.ASCII):
        return value
    return json.dumps(value, default=str, ensure_ascii=not str(value).isprintable())


def _in_order(line: Fields) -> Fields:
    first = ("timestamp", "level", "event", "transfer", "run", "destination", "cluster")
    return {key: line[key] for key in first if key in line} | line


def _with_priority(render: Callable[[object, str, Any], str]) -> Callable[[object, str, Any], str]:
    def rendered(logger: object, method: str, line: Any) -> str:
        return f"<{_PRIORITIES[line['level']]}>{render(logger, method, line)}"

    return rendered


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether journald reads `stream`: systemd.exec(5), JOURNAL_STREAM (device and inode)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
