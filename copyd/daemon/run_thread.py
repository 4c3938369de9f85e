"""A run in flight: a thread of its own, which gets frozen values and sends its news."""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from copyd import events
from copyd.daemon.messages import Landed, News
from copyd.errors import CopydError
from copyd.transfers import Stop, facts, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.daemon.admission import Connections
    from copyd.daemon.messages import Post
    from copyd.events import Event, Observer
    from copyd.transfers import Report, Transfer


@dataclass(frozen=True, eq=False)
class Flight:
    """A run of a transfer, from its take-off on; ``stop`` ends it early.

    ``build`` makes the transfer, in the run's own thread: it may read files. ``give_back`` are to
    be called once it is over.
    """

    transfer: str
    destinations: tuple[str, ...]
    needs: Connections
    is_full: bool
    build: Callable[[], Transfer]
    give_back: tuple[Callable[[], None], ...] = ()
    stop: Stop = field(default_factory=Stop)

    def take_off(self, watch: Callable[[str], Observer], post: Post) -> None:
        """Begin; returns at once. `post` gets News, and Landed in any case."""
        name = f"copyd run {self.transfer}"
        threading.Thread(target=self._fly, args=(watch, post), name=name, daemon=True).start()

    def _fly(self, watch: Callable[[str], Observer], post: Post) -> None:
        landed = Landed(self, None, "a defect of copyd: it ended without a word")
        began = time.monotonic()
        observe: Observer = events.ignore
        try:
            observe = watch(self.transfer)
            landed = Landed(self, self._carry_out(observe, post))
        except (CopydError, psycopg.Error) as error:
            landed = Landed(self, None, facts(error))
        except Exception as error:  # noqa: BLE001 - the boundary of a run: the daemon goes on without it
            landed = Landed(self, None, _defect(error))
        finally:
            if landed.cause is not None:
                seconds = time.monotonic() - began
                observe(events.RunRefused(self.transfer, landed.cause, seconds))
            for give_back in self.give_back:
                give_back()
            post(landed)

    def _carry_out(self, observe: Observer, post: Post) -> Report:
        def tell(event: Event) -> None:
            observe(event)
            if isinstance(event, (events.RunStarted, events.DestinationEnded)):
                post(News(self, event))

        return run(self.build(), is_full=self.is_full, observe=tell, stop=self.stop)


def _defect(error: Exception) -> str:
    """Say where an unexpected error comes from, without its words: they may quote a row."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"a defect of copyd: {type(error).__name__} in {where}"
