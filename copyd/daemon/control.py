"""The control socket: one JSON object asks, one answers, and the connection is over.

Who may connect is a matter of the socket's mode (0660) and its folder. Requests are bounded in size
and time, and so are those that are served at once.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from typing_extensions import Self

    from copyd.daemon.messages import Answer

NAME = "control.sock"
LARGEST_REQUEST = 64 * 1024
LARGEST_ANSWER = 64 * 1024 * 1024
PATIENCE = 5.0
"""Seconds that a caller gets to ask, and to take the answer."""
MOST_CALLERS = 16
LONGEST_ADDRESS = 107
"""Bytes that the path of a Unix socket may have."""

Request = dict[str, Any]


class Control:
    """Listens at `path`; ``answer`` is called in a thread of each caller's own and may wait."""

    def __init__(self, path: Path, answer: Callable[[Request], Answer]) -> None:
        self._path = path
        self._answer = answer
        self._listener: socket.socket | None = None
        self._slots = threading.BoundedSemaphore(MOST_CALLERS)

    def __enter__(self) -> Self:
        """Listen; raises CopydError where another daemon does, or nobody can."""
        address = _address(self._path)
        if _is_answered(address):
            raise CopydError(
                f"another daemon listens at {self._path}: stop it, or give this one another "
                "runtime_directory"
            )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)  # left by a daemon that was killed
            os.fchmod(listener.fileno(), 0o600)  # Linux makes the file with this mode, no wider
            listener.bind(address)
            self._path.chmod(0o660)
            listener.listen()
        except OSError as error:
            listener.close()
            raise CopydError(f"cannot listen at {self._path}: {error.strerror}") from error
        self._listener = listener
        threading.Thread(
            target=self._accept, args=(listener,), name="copyd control", daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            self._slots.acquire()
            try:
                caller, _ = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(
                target=self._serve, args=(caller,), name="copyd caller", daemon=True
            ).start()

    def _serve(self, caller: socket.socket) -> None:
        try:
            with caller, suppress(OSError):
                caller.settimeout(PATIENCE)
                _send(caller, self._answer_to(_receive(caller, LARGEST_REQUEST)))
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
        except Exception as error:  # noqa: BLE001 - the boundary of a caller: others are served on
            return {"error": f"a defect of copyd: {type(error).__name__}"}


def ask(path: Path, request: Mapping[str, object], *, within: float) -> Request:
    """Ask the daemon that listens at `path`.

    Raises CopydError where none does, where it does not answer within so many seconds, and with
    its own sentence where it does not do what it is asked.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(within)
            connection.connect(_address(path))
            _send(connection, request)
            connection.shutdown(socket.SHUT_WR)
            text = _receive(connection, LARGEST_ANSWER)
    except TimeoutError as error:
        raise CopydError(f"the daemon at {path} did not answer within {within:g} s") from error
    except PermissionError as error:
        raise CopydError(f"you may not talk to the daemon at {path}: join its group") from error
    except OSError as error:
        raise CopydError(f"no daemon listens at {path}: start it with copyd run") from error
    return _understood(path, text)


def _understood(path: Path, text: bytes) -> Request:
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise CopydError(f"the daemon at {path} ended before it had answered") from error
    if not isinstance(answer, dict):
        raise CopydError(f"what answers at {path} is no copyd daemon")
    if "error" in answer:
        raise CopydError(str(answer["error"]))
    return answer


def _send(connection: socket.socket, message: Mapping[str, object]) -> None:
    connection.sendall(json.dumps(message, ensure_ascii=True).encode() + b"\n")


def _receive(connection: socket.socket, most: int) -> bytes:
    """Read a line, or what there is before the end; no more than so many bytes."""
    found = bytearray()
    while len(found) <= most and not found.endswith(b"\n"):
        more = connection.recv(64 * 1024)
        if not more:
            break
        found += more
    return bytes(found[:most])


def _address(path: Path) -> str:
    address = str(path)
    if len(os.fsencode(address)) > LONGEST_ADDRESS:
        raise CopydError(
            f"the path of a socket has at most {LONGEST_ADDRESS} bytes, {path} has more: choose a "
            "shorter runtime_directory"
        )
    return address


def _is_answered(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address)
        except TimeoutError:
            return True  # somebody is there, and busy
        except OSError:
            return False
        return True
