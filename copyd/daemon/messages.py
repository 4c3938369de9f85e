"""The messages in the supervisor's inbox: frozen, from any thread or a signal handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copyd.daemon.run_thread import Ended, News

if TYPE_CHECKING:
    from copyd.config import Config
    from copyd.events import Event

Answer = Mapping[str, Any]
"""One JSON object; under "error" a sentence, where a command was not carried out."""
Reply = Callable[[Answer], None]
"""Takes an answer and never waits."""


def nobody(answer: Answer) -> None:
    """Drop the answer: nobody asked."""
    del answer


@dataclass(frozen=True, slots=True)
class Halt:
    """End in order; a second one: end now, with the exit code ``code``."""

    reason: str
    code: int = 0


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again; ``is_dry``: only say what that would change."""

    reply: Reply = nobody
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class Trigger:
    """Run a transfer now, to these destinations; to all, where none is named."""

    transfer: str
    destinations: tuple[str, ...] = ()
    is_full: bool = False
    reply: Reply = nobody


@dataclass(frozen=True, slots=True)
class Pause:
    """Start no runs of a transfer on its schedule, or start them again."""

    transfer: str
    is_paused: bool
    reply: Reply = nobody


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a managed cluster."""

    event: Event


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration was read, or cannot be used because of these problems."""

    config: Config | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recalled:
    """When each transfer last succeeded at this server (Unix time), as its ledgers say."""

    server: str
    successes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Released:
    """The managed clusters were stopped or left; those named did not end in time."""

    unfinished: tuple[str, ...]


Command = Halt | Reload | Trigger | Pause
Message = Command | Told | News | Ended | Loaded | Recalled | Released
Post = Callable[[Message], None]
"""Puts a message into the inbox; never waits."""
