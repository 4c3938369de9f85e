"""Reads the configuration again on request, and has it hold while the daemon is not stopping."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from copyd import events
from copyd.daemon import reload
from copyd.daemon.messages import Loaded
from copyd.daemon.systemd import MICRO
from copyd.errors import CopydError
from copyd.status import ReloadStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.config import Config
    from copyd.daemon.environment import Environment
    from copyd.daemon.messages import Answer, Post, Reload
    from copyd.daemon.schedule import Instant

REFUSAL: Answer = {"error": "the daemon is stopping: the configuration is not reloaded"}


class Reloader:
    """Carries out one Reload after the other; each is answered.

    Called by the supervisor's loop alone; the file is read in a thread of its own, since its disk
    may be slow. ``apply`` gets a configuration that holds from now on; ``config`` is that one.
    """

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        post: Post,
        apply: Callable[[Config], None],
        now: Instant,
    ) -> None:
        self.config = config
        self.status = ReloadStatus(is_successful=True, succeeded_at=now.wall)
        self._environment = environment
        self._post = post
        self._apply = apply
        self._requests: deque[Reload] = deque()  # the first is being carried out
        self._is_closed = False

    def request(self, request: Reload, now: Instant) -> None:
        """Carry out a Reload after those that came before it."""
        if self._is_closed:
            request.reply(REFUSAL)
            return
        self._requests.append(request)
        if len(self._requests) == 1:
            self._read_next(now)

    def loaded(self, loaded: Loaded, now: Instant) -> None:
        """Apply the configuration that was read for the first request, and answer it."""
        if self._is_closed:
            return  # the daemon is stopping: its clusters are, too, and READY=1 would be a lie
        request = self._requests.popleft()
        if loaded.config is None:
            request.reply({"problems": list(loaded.problems)})
        else:
            plan = reload.diff(self.config, loaded.config)
            if not request.is_dry:
                self._hold(loaded.config, plan)
            request.reply({"changes": list(plan.sentences)})
        if not request.is_dry:
            self._tell(loaded, now)
        if self._requests:
            self._read_next(now)

    def close(self) -> None:
        """Refuse every Reload from now on, those that wait for their file too."""
        self._is_closed = True
        while self._requests:
            self._requests.popleft().reply(REFUSAL)

    def _read_next(self, now: Instant) -> None:
        if not self._requests[0].is_dry:
            self._environment.notifier.tell(RELOADING=1, MONOTONIC_USEC=round(now.ticks * MICRO))
        self._environment.spawn("load", lambda: self._post(self._read()))

    def _read(self) -> Loaded:
        try:
            return Loaded(self._environment.load())
        except CopydError as error:
            return Loaded(None, getattr(error, "problems", (str(error),)))
        except Exception as error:  # noqa: BLE001 - the boundary of a reload: the old configuration holds
            return Loaded(None, (f"a defect of copyd: {type(error).__name__}",))

    def _hold(self, wanted: Config, plan: reload.Plan) -> None:
        self.config = reload.effective(self.config, wanted)
        self._apply(self.config)
        self._environment.observe(events.ConfigReloaded(plan.sentences))

    def _tell(self, loaded: Loaded, now: Instant) -> None:
        if loaded.config is None:
            self._environment.observe(events.ConfigRefused(loaded.problems))
            self.status = replace(self.status, is_successful=False, problems=loaded.problems)
        else:
            self.status = ReloadStatus(is_successful=True, succeeded_at=now.wall)
        self._environment.notifier.tell(READY=1)
