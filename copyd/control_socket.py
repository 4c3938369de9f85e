"""The protocol of the control socket: one JSON object and a newline each way.

Without the daemon's imports, so that the commands which only ask are quick.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "control.sock"
LARGEST_ANSWER = 64 * 1024 * 1024
LONGEST_ADDRESS = 107  # bytes of a Unix socket's path: unix(7)

Request = dict[str, Any]


def ask(path: Path, request: Mapping[str, object], *, within: float) -> Request:
    """Return the answer of the daemon at `path`.

    Raises CopydError without a daemon, without an answer in time, and if the daemon refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(within)
            connection.connect(address_of(path))
            send(connection, request)
            connection.shutdown(socket.SHUT_WR)
            text = receive(connection, LARGEST_ANSWER)
    except TimeoutError as error:
        raise CopydError(f"the daemon at {path} did not answer within {within:g} s") from error
    except PermissionError as error:
        raise CopydError(
            f"no permission to connect to the daemon at {path}: join its group"
        ) from error
    except OSError as error:
        raise CopydError(f"no daemon listens at {path}: start it with copyd run") from error
    return _understood(path, text)


def _understood(path: Path, text: bytes) -> Request:
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise CopydError(f"the daemon at {path} ended before it answered") from error
    if not isinstance(answer, dict):
        raise CopydError(f"the process that listens at {path} is not a copyd daemon")
    if "error" in answer:
        raise CopydError(str(answer["error"]))
    return answer


def send(connection: socket.socket, message: Mapping[str, object]) -> None:
    """Send `message` as a line of JSON."""
    connection.sendall(json.dumps(message, ensure_ascii=True).encode() + b"\n")


def receive(connection: socket.socket, most: int) -> bytes:
    """Read a line, or up to the end; at most so many bytes."""
    found = bytearray()
    while len(found) <= most and not found.endswith(b"\n"):
        more = connection.recv(64 * 1024)
        if not more:
            break
        found += more
    return bytes(found[:most])


def address_of(path: Path) -> str:
    """Return `path` as an address; raises CopydError if it is too long for a socket."""
    address = str(path)
    if len(os.fsencode(address)) > LONGEST_ADDRESS:
        raise CopydError(
            f"a socket's path has at most {LONGEST_ADDRESS} bytes, {path} is longer: configure a "
            "shorter runtime_directory"
        )
    return address
