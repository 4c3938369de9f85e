"""Signals become messages; their handlers do nothing else."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from copyd.daemon.messages import Halt, Reload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from copyd.daemon.messages import Post

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handling(post: Post) -> Iterator[None]:
    """Have SIGTERM and SIGINT end the daemon, and SIGHUP reload it, while the block lasts."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        post(Halt(f"{signal.Signals(number).name} was received", code=128 + number))

    def reload(number: int, frame: FrameType | None) -> None:
        del number, frame
        post(Reload())

    wanted = {**dict.fromkeys(ENDING, end), signal.SIGHUP: reload}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
