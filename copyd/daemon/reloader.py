"""Reload of the configuration, on request and only while the daemon is not stopping."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from copyd import events
from copyd.daemon.messages import Loaded
from copyd.daemon.reload import diff, effective
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
    """Carries out and answers Reloads in their order; belongs to the supervisor's loop.

    ``config`` is the current configuration; ``apply`` is called with each new configuration.
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
        self._requests: deque[Reload] = deque()  # the first one is in progress
        self._is_closed = False

    def request(self, request: Reload, now: Instant) -> None:
        """Carry out a Reload after the earlier ones."""
        if self._is_closed:
            request.reply(REFUSAL)
            return
        self._requests.append(request)
        if len(self._requests) == 1:
            self._read_next(now)

    def loaded(self, loaded: Loaded, now: Instant) -> None:
        """Apply the configuration read for the first request, and answer the request."""
        if self._is_closed:
            # The clusters are stopping too, and READY=1 must not follow STOPPING=1.
            # Decision: Keepers after stop_all begin nothing
            return
        request = self._requests.popleft()
        if loaded.config is None:
            request.reply({"problems": list(loaded.problems)})
        else:
            changes = diff(self.config, loaded.config)
            if not request.is_dry:
                self.config = effective(self.config, loaded.config)
                self._apply(self.config)
                self._environment.observe(events.ConfigReloaded(changes))
            request.reply({"changes": list(changes)})
        if not request.is_dry:
            self._tell(loaded, now)
        if self._requests:
            self._read_next(now)

    def close(self) -> None:
        """Refuse every Reload from now on, those in progress too."""
        self._is_closed = True
        while self._requests:
            self._requests.popleft().reply(REFUSAL)

    def _read_next(self, now: Instant) -> None:
        if not self._requests[0].is_dry:
            self._environment.notifier.tell(RELOADING=1, MONOTONIC_USEC=round(now.ticks * MICRO))
        # In a thread, because the file's disk may be slow.
        # Decision: The loop waits for nothing but its inbox
        self._environment.spawn("load", lambda: self._post(self._read()))

    def _read(self) -> Loaded:
        try:
            return Loaded(self._environment.load())
        except CopydError as error:
            return Loaded(None, getattr(error, "problems", (str(error),)))
        except Exception as error:  # noqa: BLE001 - the boundary of a reload: the old configuration stays
            return Loaded(None, (f"a defect of copyd: {type(error).__name__}",))

    def _tell(self, loaded: Loaded, now: Instant) -> None:
        if loaded.config is None:
            self._environment.observe(events.ConfigRefused(loaded.problems))
            self.status = replace(self.status, is_successful=False, problems=loaded.problems)
        else:
            self.status = ReloadStatus(is_successful=True, succeeded_at=now.wall)
        self._environment.notifier.tell(READY=1)
