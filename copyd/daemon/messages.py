"""The messages of the supervisor's inbox: frozen, from any thread or signal handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copyd.daemon.run_thread import Ended, News

if TYPE_CHECKING:
    from copyd.config import Config
    from copyd.events import Event

Answer = Mapping[str, Any]  # a JSON object; its "error" says why a command was refused
Reply = Callable[[Answer], None]  # receives an answer; never waits


def nobody(answer: Answer) -> None:
    """Drop an answer: a signal has no caller."""
    del answer


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop; a second Halt stops at once, with the exit code ``code``."""

    reason: str
    code: int = 0


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again; ``is_dry``: only report the changes."""

    reply: Reply = nobody
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class Trigger:
    """Run a transfer now, to these destinations; empty: to all."""

    transfer: str
    destinations: tuple[str, ...] = ()
    is_full: bool = False
    reply: Reply = nobody


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause the schedule of a transfer, or resume it."""

    transfer: str
    is_paused: bool
    reply: Reply = nobody


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a managed cluster."""

    event: Event


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration was read, or has these problems."""

    config: Config | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recalled:
    """Times of the transfers' last successes at a server (Unix time), from its ledgers."""

    server: str
    successes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Released:
    """The managed clusters were stopped or left; the unfinished ones did not end in time."""

    unfinished: tuple[str, ...]


Command = Halt | Reload | Trigger | Pause
Message = Command | Told | News | Ended | Loaded | Recalled | Released
Post = Callable[[Message], None]  # posts a message to the inbox; never waits
