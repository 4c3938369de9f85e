"""Events as lines: one event a line, JSON or for people, with journald's priorities where it reads.

The name of a line is the event's: DestinationDropped is "destination.dropped". What an event says
holds no row value and no secret; as a second lock on that door, what looks like a password in a
connection string is blotted out, and control characters cannot begin a line of their own.
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

FORMATS = ("auto", "json", "console")
LEVELS = ("debug", "info", "warning", "error")

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
"""What is not here is "info", or what its verdict says."""

_VERDICT_LEVELS = {"succeeded": "info", "partial": "warning"}
_COUNTS = ("rows", "size", "read", "loaded", "rejected")
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31"}
_SECRETS = (
    re.compile(r"(?i)((?:password|passwd|sslpassword)\s*[=:]\s*)('(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^\s,;&]+)"),
    re.compile(r"(?i)(postgres(?:ql)?://[^\s:/@]*:)([^\s/]+)(?=@)"),
)  # fmt: skip

# The level stands in the standard library's registry: whoever asks, asks the one that holds now.
_LEVEL = logging.getLogger("copyd.observe.logs")

Fields = dict[str, Any]


def configure(
    *,
    level: str = "info",
    format: str = "auto",  # noqa: A002 - the key's name in the configuration
    stream: TextIO,
    environ: Mapping[str, str],
) -> None:
    """Say how lines look from now on, and which are written; may be called again at any time.

    ``format``: "auto" is "console" on a terminal and "json" elsewhere. With JOURNAL_STREAM in
    `environ`, and that stream being this one, each line begins with its priority for journald.
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
        cache_logger_on_first_use=False,
    )


class Log:
    """An observer that writes a line for each event; a stream that fails loses lines, no more."""

    def __call__(self, event: Event) -> None:
        """Write a line about the daemon itself."""
        _write(event, {})

    def watch(self, transfer: str) -> Observer:
        """Return the observer of one run: each of its lines says which run it is."""
        context: Fields = {"transfer": transfer}

        def observe(event: Event) -> None:
            if isinstance(event, events.RunStarted):
                context["run"] = event.run
            _write(event, context)

        return observe


def name_of(event: Event) -> str:
    """Return the name of an event's line: "destination.dropped" for DestinationDropped."""
    first, *rest = re.findall("[A-Z][a-z]*", type(event).__name__)
    return f"{first}.{'_'.join(rest)}".lower()


def level_of(event: Event) -> str:
    """Return how much an event matters."""
    match event:
        case events.DestinationEnded() | events.RunEnded():
            return _VERDICT_LEVELS.get(event.verdict, "error")
        case _:
            return _LEVELS.get(type(event), "info")


def concealed(text: str) -> str:
    """Return `text` without what looks like a password in a connection string."""
    for secret in _SECRETS:
        text = secret.sub(r"\1***", text)
    return text


def _write(event: Event, context: Fields) -> None:
    level = level_of(event)
    if not _LEVEL.isEnabledFor(getattr(logging, level.upper())):
        return
    told: Fields = {}
    for each in fields(event):
        told |= _plain(each.name, getattr(event, each.name))
    # A full disk, a reader that is gone, a stream that is closed: nobody is left to be told.
    with suppress(OSError, ValueError):
        getattr(structlog.get_logger(), level)(name_of(event), **{**context, **told})


def _plain(name: str, value: object) -> Fields:
    match value:
        case frozenset():
            return {name: sorted(value)}
        case events.Counts():
            return {key: getattr(value, key) for key in _COUNTS}
        case _:
            return {name: value}


def _conceal(_logger: object, _method: str, told: Any) -> Any:
    return {key: _concealed_in(value) for key, value in told.items()}


def _concealed_in(value: object) -> object:
    match value:
        case str():
            return concealed(value)
        case tuple() | list():
            return [_concealed_in(each) for each in value]
        case _:
            return value


def _json(_logger: object, _method: str, told: Any) -> str:
    # Control characters are escaped by JSON; so are those above ASCII that end a line somewhere.
    return json.dumps(_in_order(told), default=str)


def _console(*, has_colours: bool) -> Callable[[object, str, Any], str]:
    def render(_logger: object, _method: str, told: Any) -> str:
        time, level, name, *rest = _in_order(told).items()
        shown = f"{level[1]:<7}"
        if has_colours:
            shown = f"\x1b[{_COLOURS[level[1]]}m{shown}\x1b[0m"
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in rest if value is not None)
        return f"{time[1]} {shown} {name[1]:<24} {pairs}".rstrip()

    return render


def _quoted(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[\w.:/+-]+", value, re.ASCII):
        return value
    return json.dumps(value, default=str, ensure_ascii=not _is_printable(value))


def _is_printable(value: object) -> bool:
    return str(value).isprintable()


def _in_order(told: Fields) -> Fields:
    """The moment, the level and the name first, then which run it is, then the rest."""
    first = ("timestamp", "level", "event", "transfer", "run", "destination", "cluster")
    return {
        **{key: told[key] for key in first if key in told},
        **{key: value for key, value in told.items() if key not in first},
    }


def _with_priority(render: Callable[[object, str, Any], str]) -> Callable[[object, str, Any], str]:
    def rendered(logger: object, method: str, told: Any) -> str:
        return f"<{_PRIORITIES[told['level']]}>{render(logger, method, told)}"

    return rendered


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether journald reads `stream`, by its device and inode: systemd.exec(5), JOURNAL_STREAM."""
    said = environ.get("JOURNAL_STREAM")
    if not said:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return said == f"{found.st_dev}:{found.st_ino}"
