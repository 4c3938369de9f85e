"""Signal handlers, each of which only posts a message."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from copyd.daemon.messages import Halt, Reload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copyd.daemon.messages import Post


@contextmanager
def handling(post: Post) -> Iterator[None]:
    """SIGTERM and SIGINT stop the daemon, SIGHUP reloads the configuration, during the block."""

    def end(number: int, _: object) -> None:
        post(Halt(f"{signal.Signals(number).name} was received", code=128 + number))

    def reload(_: int, __: object) -> None:
        post(Reload())

    wanted = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: reload}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
