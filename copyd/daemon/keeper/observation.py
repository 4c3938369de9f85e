"""Observation of a cluster: its data directory, its server and the installation for it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from copyd.cluster import (
    ClusterError,
    Holder,
    Installation,
    Postmaster,
    State,
    pg_config_dictionary,
)
from copyd.daemon.keeper.decision import Place, Seen
from copyd.daemon.keeper.records import Made

if TYPE_CHECKING:
    from copyd.cluster import Cluster
    from copyd.config import Cluster as Section
    from copyd.daemon.keeper.records import Record

ANSWER_TIMEOUT = 5.0  # seconds after which a server without an answer is silent
INIT_TIMEOUT = 120.0  # seconds for initdb
NO_PROGRAMS = Installation({"version": "PostgreSQL"})
"""Enough to observe a cluster and to stop its server."""


class Probe:
    """Checks every ``interval`` seconds whether a server answers; a silent server each time."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._asked_at: float | None = None
        self._answers = True

    def answers(self, cluster: Cluster, now: float) -> bool:
        """Whether the server answers; True if no server runs."""
        is_due = self._asked_at is None or now - self._asked_at >= self._interval
        if is_due or not self._answers:
            self._answers = cluster.ready_for_connections(ANSWER_TIMEOUT) is not False
            self._asked_at = now
        return self._answers


def look(cluster: Cluster, record: Record, *, answers: bool = True) -> Seen:
    """Return the state of a cluster now; ``answers`` as the `Probe` says. Raises OSError."""
    path = cluster.data_directory
    state = cluster.state()
    place = Place.FILLED
    # initdb writes PG_VERSION early: an interrupted one leaves a directory that looks stopped.
    if state is State.VOID or (state is State.STOPPED and record.made is Made.BEGUN):
        place = _place(path, record)
        if place is not Place.FILLED:
            state = State.VOID
    postmaster = Postmaster.observe(path)
    # A server that was just started has no lock file yet; the file is of an older server.
    is_unborn = state is State.STARTING and (
        postmaster is None or postmaster.holder is not Holder.SERVER
    )
    pid_file = None if postmaster is None or is_unborn else postmaster.pid_file
    return Seen(
        state=state,
        is_ours=record.is_ours(pid_file),
        answers=answers,
        place=place,
        made=record.made,
        major=major_of(path),
    )


def major_of(data_directory: Path) -> int | None:
    """Return the major version of a data directory; None if the path holds none."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        return int((data_directory / "PG_VERSION").read_text())
    return None


def choose_installation(section: Section, major: int | None) -> Installation:
    """Return the installation for a data directory of version `major` (None: for initdb).

    Raises `ClusterError` if no installed version fits.
    """
    wanted = section.version or major
    if section.pg_config is not None:
        named = Installation(pg_config_dictionary(section.pg_config))
        if major not in (None, named.version_info.major):
            raise ClusterError(
                f"{section.data_directory} is of PostgreSQL {major}, but {section.pg_config} "
                f"belongs to {named.version_info.major}: set pg_config to that of {major}"
            )
        return named
    found = Installation.find_all()
    for each in found:
        if wanted in (None, each.version_info.major):
            return each
    here = ", ".join(str(each.version_info.major) for each in found) or "none"
    name = "PostgreSQL" if wanted is None else f"PostgreSQL {wanted}"
    raise ClusterError(
        f"{name}, for {section.data_directory}, is not installed (found: {here}): install it, or "
        "set pg_config"
    )


def clear_unfinished(data_directory: Path) -> None:
    """Remove the files of an interrupted initdb; the folder itself stays."""
    for entry in data_directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _place(path: Path, record: Record) -> Place:
    try:
        is_empty = next(path.iterdir(), None) is None
    except FileNotFoundError:
        return Place.ABSENT
    except NotADirectoryError:
        return Place.FILLED
    if is_empty:
        return Place.EMPTY
    if record.made is Made.BEGUN:
        if _is_being_made(path):
            return Place.BUSY
        if _is_unfinished(path, record.begun_at):
            return Place.UNFINISHED
    return Place.FILLED


def _is_being_made(path: Path) -> bool:
    # A daemon that was killed leaves its initdb running; only the process list shows it.
    wanted = os.fsencode(path)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            if wanted in arguments and Path(os.fsdecode(arguments[0])).name == "initdb":
                return True
    return False


def _is_unfinished(path: Path, begun_at: float) -> bool:
    """Whether every file dates from copyd's initdb, and no server ever ran on them."""
    # A backup restored later has younger inodes: only the kernel sets their time of change.
    # Decision: Records are named after the data directory
    if (path / "postmaster.opts").exists():
        return False
    latest = begun_at + INIT_TIMEOUT
    return all(begun_at - 1 <= each.lstat().st_ctime <= latest for each in path.rglob("*"))
