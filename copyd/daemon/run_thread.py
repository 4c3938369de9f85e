"""A run in a thread of its own: it gets frozen values and posts its news."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from copyd import events
from copyd.errors import CopydError
from copyd.transfers import Stop, facts, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.daemon.admission import Connections
    from copyd.daemon.environment import Spawn
    from copyd.events import Event, Observer
    from copyd.transfers import Report, Transfer


@dataclass(frozen=True, slots=True)
class News:
    """An event of a run that the daemon acts on while the run goes on."""

    run: RunThread
    event: events.RunStarted | events.DestinationEnded


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is over. Without a report it could not start: ``cause`` says why."""

    run: RunThread
    report: Report | None
    cause: str | None = None


@dataclass(frozen=True, eq=False)
class RunThread:
    """A run of a transfer; ``stop`` ends it early.

    ``build`` makes the transfer, in the run's own thread: it may read files. Each of ``give_back``
    is called once the run is over.
    """

    transfer: str
    destinations: tuple[str, ...]
    needs: Connections
    is_full: bool
    build: Callable[[], Transfer]
    give_back: tuple[Callable[[], None], ...] = ()
    stop: Stop = field(default_factory=Stop)

    def start(
        self,
        watch: Callable[[str], Observer],
        post: Callable[[News | Ended], None],
        spawn: Spawn,
    ) -> None:
        """Start; returns at once. `post` gets News, and Ended in any case."""
        spawn(f"run {self.transfer}", lambda: self._work(watch, post))

    def _work(self, watch: Callable[[str], Observer], post: Callable[[News | Ended], None]) -> None:
        ended = Ended(self, None, "a defect of copyd: it ended without a word")
        began = time.monotonic()
        observe: Observer = events.ignore
        try:
            observe = watch(self.transfer)
            ended = Ended(self, self._carry_out(observe, post))
        except (CopydError, psycopg.Error) as error:
            ended = Ended(self, None, facts(error))
        except Exception as error:  # noqa: BLE001 - the boundary of a run: the daemon goes on without it
            ended = Ended(self, None, _defect(error))
        finally:
            if ended.cause is not None:
                seconds = time.monotonic() - began
                observe(events.RunRefused(self.transfer, ended.cause, seconds))
            for give_back in self.give_back:
                give_back()
            post(ended)

    def _carry_out(self, observe: Observer, post: Callable[[News | Ended], None]) -> Report:
        def tell(event: Event) -> None:
            observe(event)
            if isinstance(event, (events.RunStarted, events.DestinationEnded)):
                post(News(self, event))

        return run(self.build(), is_full=self.is_full, observe=tell, stop=self.stop)


def _defect(error: Exception) -> str:
    """Name the place of an unexpected error, without its text: that may quote a row."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"a defect of copyd: {type(error).__name__} in {where}"
