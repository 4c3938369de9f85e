"""The state of a cluster, decided from observations; pure.

Source of the lock file's lines: PostgreSQL's ``src/include/utils/pidfile.h``.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

START_TOLERANCE = 10.0
"""Seconds between a process's birth and the start in its lock file, on a loaded machine."""

_PORT_TAKEN = re.compile(
    r"could not bind \S+ (?:address|socket).*Address already in use.*?on port (\d+)", re.DOTALL
)
_LAST_WORDS = re.compile(r"^.*(?:FATAL|PANIC):\s+(.*)$", re.MULTILINE)


class State(enum.Enum):
    """The state of a data directory and its server, as observed just now."""

    VOID = "void"  # no data directory, or initdb did not finish in it
    STOPPED = "stopped"
    STARTING = "starting"  # running, but not accepting connections yet; a standby may stay so
    READY = "ready"
    STOPPING = "stopping"
    CRASHED = "crashed"  # the lock file's process is gone: the next start recovers
    FOREIGN = "foreign"  # the lock file's process lives, but is not provably this cluster's server


class Holder(enum.Enum):
    """The process that has a lock file's process id."""

    NOBODY = "nobody"
    SERVER = "server"  # this cluster's server, proved
    STRANGER = "stranger"  # another process, proved: the id was reused, or the file was copied
    UNKNOWN = "unknown"  # a living process; this account may not see enough of it to decide


@dataclass(frozen=True)
class PidFile:
    """``postmaster.pid``, as far as the server has written it."""

    pid: int
    is_postmaster: bool  # false for a single-user backend, which copyd never signals
    data_directory: str
    started: int  # seconds since the epoch
    port: int | None = None
    socket_directory: str = ""
    listen_address: str = ""
    shared_memory_id: int | None = None
    status: str = ""


@dataclass(frozen=True)
class ProcessFacts:
    """Facts of a living process; None for a fact that this account may not see."""

    started: float
    program: str | None  # the base name of the executable
    directory: str | None  # the working directory; a postmaster's is its data directory


def parse_pid_file(text: str) -> PidFile | None:
    """Parse a lock file; None while its first lines are incomplete."""
    lines = text.splitlines()
    try:
        number, data_directory, started = int(lines[0]), lines[1], int(lines[2])
    except (IndexError, ValueError):
        return None
    # The server appends later lines while it starts; missing ones are empty here.
    later = [line.strip() for line in lines[3:]] + [""] * 5
    port, socket_directory, listen_address, shared_memory, status = later[:5]
    memory_id = shared_memory.split()[1:]
    return PidFile(
        pid=abs(number),
        is_postmaster=number > 0,
        data_directory=data_directory,
        started=started,
        port=int(port) if port.isdigit() else None,
        socket_directory=socket_directory,
        listen_address=listen_address,
        shared_memory_id=int(memory_id[0]) if memory_id else None,
        status=status,
    )


def identify(pid_file: PidFile, facts: ProcessFacts | None, data_directory: str) -> Holder:
    """Decide whether the process is the server of ``data_directory``, a resolved path.

    Start time, executable and data directory must all agree. One mismatch proves another process;
    a fact that is not visible leaves the question open.
    """
    if facts is None:
        return Holder.NOBODY
    agreements = (
        abs(facts.started - pid_file.started) <= START_TOLERANCE,
        None if facts.program is None else facts.program in ("postgres", "postmaster"),
        None if facts.directory is None else facts.directory == data_directory,
    )
    # Decided in this order: a certain mismatch outweighs facts that are not visible.
    if False in agreements:
        return Holder.STRANGER
    if None in agreements or not pid_file.is_postmaster:
        return Holder.UNKNOWN
    return Holder.SERVER


def decide_state(*, is_initialized: bool, pid_file: PidFile | None, holder: Holder) -> State:
    """Return the state that follows from the observations."""
    if not is_initialized:
        return State.VOID
    if pid_file is None:
        return State.STOPPED
    if holder is Holder.NOBODY:
        return State.CRASHED
    if holder is not Holder.SERVER:
        return State.FOREIGN
    # "standby" is a standby that does not accept connections (yet).
    return {"ready": State.READY, "stopping": State.STOPPING}.get(pid_file.status, State.STARTING)


def explain_log(log: str) -> str:
    """Return the cause in a log's end, as the rest of a sentence; empty for an empty log."""
    if not log.strip():
        return ""
    taken = _PORT_TAKEN.search(log)
    fatal = _LAST_WORDS.findall(log)
    if taken:
        reason = f": port {taken[1]} is taken by another server"
    else:
        reason = f": {fatal[-1]}" if fatal else ""
    return f"{reason}; the end of its log:\n{log.strip()}"
