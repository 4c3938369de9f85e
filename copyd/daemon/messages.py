"""What is put into the supervisor's inbox: frozen, from any thread or a signal handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from copyd.config import Config
    from copyd.daemon.run_thread import Flight
    from copyd.events import DestinationEnded, Event, RunStarted
    from copyd.transfers import Report

Answer = Mapping[str, Any]
"""One JSON object; with "error", a sentence, where a command was not carried out."""
Reply = Callable[[Answer], None]
"""Takes an answer and never waits."""


def nobody(answer: Answer) -> None:
    """Tell nobody."""
    del answer


@dataclass(frozen=True, slots=True)
class Halt:
    """End; for the second time: end now. ``code`` is the exit code then."""

    reason: str
    code: int = 0


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again, or only say what that would change."""

    reply: Reply = nobody
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class Trigger:
    """Run a transfer now, to these destinations or, where none are named, to all."""

    transfer: str
    destinations: tuple[str, ...] = ()
    is_full: bool = False
    reply: Reply = nobody


@dataclass(frozen=True, slots=True)
class Pause:
    """Begin no run of a transfer by itself any more, or begin them again."""

    transfer: str
    is_paused: bool
    reply: Reply = nobody


@dataclass(frozen=True, slots=True)
class Told:
    """What a keeper says of its cluster."""

    event: Event


@dataclass(frozen=True, slots=True)
class News:
    """What a run in flight says that the supervisor wants to know at once."""

    flight: Flight
    event: RunStarted | DestinationEnded


@dataclass(frozen=True, slots=True)
class Landed:
    """A run is over; without a report, for this cause, it could not begin."""

    flight: Flight
    report: Report | None
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration was read, or is not to be used for these reasons."""

    config: Config | None
    problems: tuple[str, ...]
    asked: Reload


@dataclass(frozen=True, slots=True)
class Recalled:
    """When each transfer last succeeded at this server (Unix time), as its ledgers say."""

    server: str
    successes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Released:
    """Managed clusters were stopped or left; those named did not end in time."""

    unfinished: tuple[str, ...]


Message = Halt | Reload | Trigger | Pause | Told | News | Landed | Loaded | Recalled | Released
Post = Callable[[Message], None]
"""Puts a message into the inbox; never waits."""
