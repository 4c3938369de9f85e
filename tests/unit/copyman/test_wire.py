"""COPY on a stream that takes bytes before it can send them, as an encrypted one does."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, cast

import pytest

from copyd.copyman.chunk import PayloadChunk
from copyd.copyman.links.wire import WireCopyIn
from copyd.wire import COPY_DONE, copy_fail, data_header
from tests.support.scripted_server import COPY_IN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

ROW = b"1\n"
STEPS: dict[str, tuple[Callable[[WireCopyIn], None], bytes]] = {
    "offer": (lambda copy: copy.offer(PayloadChunk([ROW])), data_header(len(ROW)) + ROW),
    "finish": (lambda copy: copy.finish(), COPY_DONE),
    "abort": (lambda copy: copy.abort("enough"), copy_fail("enough")),
}
"""What may be asked of a server that is in COPY, and what is to be sent then."""


class BegunStream:
    """Takes all it is given, and lets it go while ``is_open``; the server says ``said``."""

    unsent = 0

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.sent = b""
        self.is_open = True
        self._begun = b""

    @property
    def is_flushed(self) -> bool:
        return not self._begun

    def receive(self, target: memoryview) -> int:
        count = min(len(self.said), len(target))
        target[:count], self.said = self.said[:count], self.said[count:]
        return count

    def send(self, views: Sequence[memoryview]) -> int:
        self._flush()
        if self._begun:
            return 0
        self._begun = b"".join(views)
        taken = len(self._begun)
        self._flush()
        return taken

    def close(self) -> None:
        """Nothing is held."""

    def _flush(self) -> None:
        if self.is_open:
            self.sent += self._begun
            self._begun = b""


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_not_done_while_its_bytes_are_begun_and_not_sent(step: str) -> None:
    ask, wanted = STEPS[step]
    stream = BegunStream(COPY_IN)
    # The connection is touched only before and after what happens here.
    copy = WireCopyIn(cast("psycopg.Connection[Any]", None), b"COPY t FROM STDIN", stream)
    copy.start()
    assert copy.pump()
    stream.sent, stream.is_open = b"", False
    ask(copy)
    assert not copy.pump()
    assert not copy.pump()
    assert copy.events & select.POLLOUT
    stream.is_open = True
    assert copy.pump() is (step == "offer")  # the others wait for the server's verdict now
    assert stream.sent == wanted
    assert not copy.events & select.POLLOUT
