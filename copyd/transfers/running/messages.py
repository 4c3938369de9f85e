"""Messages to the runner: what the threads of a run, its steps and its passes, have to say.

A pass and the runner share one `Channel`: messages go up, and down comes that they were heard, or
that the pass is no longer wanted.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from copyd.copyman import Link
    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.source import ChosenFormat, Scan


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step of a try is over; ``error`` is what it raised."""

    destination: Destination
    attempt: Attempt
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Progressed:
    """Each of these destinations was given so many more messages, ``size`` more bytes."""

    destinations: frozenset[str]
    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A destination stalled and was taken back; it has held the others back so many seconds."""

    destination: Destination
    held_back: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A destination has all rows of one scan; ``size``: bytes of payload that it was given."""

    destination: Destination
    scan: Scan
    rows: int
    size: int
    link: Link | None
    format: ChosenFormat


@dataclass(frozen=True, slots=True)
class Dropped:
    """A destination is out of the pass, which uses its connection until the pass has ended."""

    destination: Destination
    cause: BaseException
    link: Link | None
    format: ChosenFormat


@dataclass(frozen=True, slots=True)
class Findings:
    """Answers of the source at the start of a pass, each by the name of a reading.

    ``marks``: the highest values of watermark columns. ``bounds``: for each destination, the values
    from which on its earlier, bounded scans had read.
    """

    marks: Mapping[str, str | None] = field(default_factory=dict)
    bounds: Mapping[Destination, Mapping[str, str | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completed:
    """A destination has all rows of all scans; the pass does not use its connection any more."""

    destination: Destination
    findings: Findings


@dataclass(frozen=True, slots=True)
class PassEnded:
    """The pass is over, and its last message is this one; ``error`` is what it raised."""

    error: BaseException | None


News = Progressed | Reconciled | Loaded | Dropped | Completed
"""Messages of a pass that the runner answers with `Channel.heard`."""
Message = StepEnded | News | PassEnded


class PassUnwanted(Exception):
    """The runner has closed the channel: raised in the pass, to end it."""


class Channel:
    """How a pass, in its thread, talks to the runner.

    The pass is never more than one message ahead of the runner, so that observers hold up a copy
    that is too fast for them.
    """

    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self._is_heard = threading.Event()
        self._is_heard.set()
        self._is_closed = threading.Event()

    def tell(self, news: News, *, waits: bool = True) -> None:
        """Post `news` once the message before it was heard; `waits` until it is heard itself.

        Raises PassUnwanted once the runner has closed the channel.
        """
        self.require_open()
        self._is_heard.wait()
        self._is_heard.clear()
        self.require_open()  # closed before it was cleared: nobody would set it again
        self._post(news)
        if waits:
            self._is_heard.wait()
            self.require_open()

    def require_open(self) -> None:
        """Raise PassUnwanted once the runner has closed the channel."""
        if self._is_closed.is_set():
            raise PassUnwanted

    def heard(self) -> None:
        """Let the pass go on: its last message was acted upon; called by the runner."""
        self._is_heard.set()

    def close(self) -> None:
        """Have the pass end when it next checks or tells anything; called by the runner."""
        self._is_closed.set()
        self._is_heard.set()
