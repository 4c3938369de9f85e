"""A run in its own thread: frozen values in, news and the end out."""

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

    Watch = Callable[[str], Observer]
    PostNews = Callable[["News | Ended"], None]


@dataclass(frozen=True, slots=True)
class News:
    """An event on which the daemon acts during the run."""

    run: RunThread
    event: events.RunStarted | events.DestinationEnded


@dataclass(frozen=True, slots=True)
class Ended:
    """A run ended. Without a report the run did not start, for this ``cause``."""

    run: RunThread
    report: Report | None
    cause: str | None = None


@dataclass(frozen=True, eq=False)
class RunThread:
    """A run of a transfer; ``build`` is called in its thread, ``give_back`` after its end."""

    transfer: str
    destinations: tuple[str, ...]
    needs: Connections
    is_full: bool
    build: Callable[[], Transfer]
    give_back: tuple[Callable[[], None], ...] = ()
    stop: Stop = field(default_factory=Stop)

    def start(self, watch: Watch, post: PostNews, spawn: Spawn) -> None:
        """Start; returns at once. `post` receives News, and Ended in any case."""
        spawn(f"run {self.transfer}", lambda: self._work(watch, post))

    def _work(self, watch: Watch, post: PostNews) -> None:
        ended = Ended(self, None, "a defect of copyd: the run ended without a result")
        began = time.monotonic()
        observe: Observer = events.ignore
        try:
            observe = watch(self.transfer)
            ended = Ended(self, self._carry_out(observe, post))
        except (CopydError, psycopg.Error) as error:
            ended = Ended(self, None, facts(error))
        except Exception as error:  # noqa: BLE001 - the boundary of a run: the daemon goes on
            ended = Ended(self, None, _defect(error))
        finally:
            if ended.cause is not None:
                seconds = time.monotonic() - began
                observe(events.RunRefused(self.transfer, ended.cause, seconds))
            for give_back in self.give_back:
                give_back()
            post(ended)

    def _carry_out(self, observe: Observer, post: PostNews) -> Report:
        def tell(event: Event) -> None:
            observe(event)
            if isinstance(event, (events.RunStarted, events.DestinationEnded)):
                post(News(self, event))

        return run(self.build(), is_full=self.is_full, observe=tell, stop=self.stop)


def _defect(error: Exception) -> str:
    # Without the error's text: it may quote a row.
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"a defect of copyd: {type(error).__name__} in {where}"
