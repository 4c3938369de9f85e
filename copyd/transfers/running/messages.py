"""Messages to the runner from the threads of a run, and the channel between a pass and the runner."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copyd.events import DataRelayed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from copyd.copyman import Link
    from copyd.transfers.destination import Attempt
    from copyd.transfers.running.destination import Destination
    from copyd.transfers.source import ChosenFormat, Scan


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step of ``attempt`` has ended; ``error`` is the exception, if it raised."""

    destination: Destination
    attempt: Attempt
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A stalled destination was reconciled; it has held back the others for so many seconds."""

    destination: Destination
    held_back: float


@dataclass(frozen=True, slots=True)
class ScanEnded:
    """A destination has all rows of a scan or, with an ``error``, was dropped from the pass.

    ``size``: bytes of payload sent. The pass uses the connection until Completed or PassEnded.
    """

    destination: Destination
    scan: Scan
    rows: int
    size: int
    link: Link | None
    format: ChosenFormat
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """A destination has all rows of all scans; the pass no longer uses its connection.

    ``watermarks``: the highest in the source, by reading. ``bounds``: the watermarks, by
    reading, at which the destination's earlier, bounded scans began.
    """

    destination: Destination
    watermarks: Mapping[str, str | None] = field(default_factory=dict)
    bounds: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PassEnded:
    """The last message of a pass; ``error`` is the exception, if the pass raised."""

    error: BaseException | None


News = DataRelayed | Reconciled | ScanEnded | Completed
"""Messages of a pass, acknowledged with `Channel.heard`; progress is the event itself."""
Message = StepEnded | News | PassEnded


class PassUnwanted(Exception):
    """Raised in the pass after the runner has closed the channel."""


class Channel:
    """Messages from a pass to the runner, each acknowledged before the next is posted.

    A slow observer therefore slows the copy down, instead of filling the inbox.
    """

    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self._is_closed = False
        self._is_heard = threading.Event()
        self._is_heard.set()

    def tell(self, news: News, *, waits: bool = True) -> None:
        """Post `news` after the previous message was heard; `waits`: return when it is heard too.

        Raises PassUnwanted if the channel is closed.
        """
        self.require_open()
        self._is_heard.wait()
        self._is_heard.clear()
        # Again: if `close` came before `clear`, nothing would set the event any more.
        self.require_open()
        self._post(news)
        if waits:
            self._is_heard.wait()
            self.require_open()

    def require_open(self) -> None:
        if self._is_closed:
            raise PassUnwanted

    def heard(self) -> None:
        """Acknowledge the last message; called by the runner."""
        self._is_heard.set()

    def close(self) -> None:
        """End the pass at its next check or message; called by the runner."""
        self._is_closed = True  # before the event: a pass that wakes must see it
        self._is_heard.set()
