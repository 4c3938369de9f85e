"""The control socket: a request and an answer for each connection, both a JSON object.

The socket's mode (0660) and its folder decide who may connect. Size, time and number of requests
are limited.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from copyd.control_socket import address_of, receive, send
from copyd.daemon.environment import spawn
from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from copyd.control_socket import Request
    from copyd.daemon.messages import Answer

LARGEST_REQUEST = 64 * 1024
PATIENCE = 5.0  # seconds for a caller to send the request, and to read the answer
MOST_CALLERS = 16


class Control:
    """Listens at `path`; ``answer`` runs in a thread for each caller and may wait."""

    def __init__(self, path: Path, answer: Callable[[Request], Answer]) -> None:
        self._path = path
        self._answer = answer
        self._listener: socket.socket | None = None
        self._slots = threading.BoundedSemaphore(MOST_CALLERS)

    def __enter__(self) -> Self:
        """Listen; raises CopydError if another daemon listens, or the system refuses."""
        address = address_of(self._path)
        if _is_answered(address):
            raise CopydError(
                f"another daemon listens at {self._path}: stop it, or give this one another "
                "runtime_directory"
            )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)  # of a daemon that was killed
            os.fchmod(listener.fileno(), 0o600)  # the file never has a wider mode
            listener.bind(address)
            self._path.chmod(0o660)
            listener.listen()
        except OSError as error:
            listener.close()
            raise CopydError(f"cannot listen at {self._path}: {error.strerror}") from error
        self._listener = listener
        spawn("control", partial(self._accept, listener))
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # unblocks accept()
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            self._slots.acquire()
            try:
                caller, _ = listener.accept()
            except OSError:
                return  # the listener was closed
            spawn("caller", partial(self._serve, caller))

    def _serve(self, caller: socket.socket) -> None:
        try:
            with caller, suppress(OSError):
                caller.settimeout(PATIENCE)
                send(caller, self._answer_to(receive(caller, LARGEST_REQUEST)))
        finally:
            self._slots.release()

    def _answer_to(self, text: bytes) -> Answer:
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            return {"error": "the request is not JSON"}
        if not isinstance(request, dict):
            return {"error": "the request is not a JSON object"}
        try:
            return self._answer(request)
        except CopydError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - the boundary of a caller: the next is served
            return {"error": f"a defect of copyd: {type(error).__name__}"}


def _is_answered(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(address) in {0, errno.EAGAIN}  # EAGAIN: its backlog is full
