"""Decisions about a server from what was observed: every input is written down here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.cluster import State
from copyd.cluster.lifecycle import (
    Holder,
    PidFile,
    ProcessFacts,
    decide_state,
    explain_log,
    identify,
    parse_pid_file,
)

COMPLETE = "4711\n/srv/data\n1700000000\n5433\n/run/pg\n127.0.0.1\n  5432001   32768\nready   \n"
PID_FILE = PidFile(
    pid=4711,
    is_postmaster=True,
    data_directory="/srv/data",
    started=1700000000,
    port=5433,
    socket_directory="/run/pg",
    listen_address="127.0.0.1",
    shared_memory_id=32768,
    status="ready",
)
FACTS = ProcessFacts(started=1700000000.4, program="postgres", directory="/srv/data")


def test_a_complete_lock_file_is_read() -> None:
    assert parse_pid_file(COMPLETE) == PID_FILE


def test_a_lock_file_is_read_as_far_as_it_is_written() -> None:
    early = parse_pid_file("4711\n/srv/data\n1700000000\n5433\n/run/pg\n")
    assert early == replace(PID_FILE, listen_address="", shared_memory_id=None, status="")


def test_a_server_without_a_socket_has_an_empty_line_for_it() -> None:
    pid_file = parse_pid_file(COMPLETE.replace("/run/pg", ""))
    assert pid_file == replace(PID_FILE, socket_directory="")


def test_a_single_user_backend_is_no_postmaster() -> None:
    pid_file = parse_pid_file(f"-{COMPLETE}")
    assert pid_file == replace(PID_FILE, is_postmaster=False)


@given(st.integers(min_value=0, max_value=len(COMPLETE)))
def test_a_lock_file_cut_anywhere_never_breaks(end: int) -> None:
    pid_file = parse_pid_file(COMPLETE[:end])
    assert pid_file is None or "4711".startswith(str(pid_file.pid))


@given(st.text())
def test_a_lock_file_of_rubbish_never_breaks(text: str) -> None:
    parse_pid_file(text)


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert identify(PID_FILE, None, "/srv/data") is Holder.NOBODY


def test_a_process_that_agrees_in_everything_is_the_server() -> None:
    assert identify(PID_FILE, FACTS, "/srv/data") is Holder.SERVER


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, started=1700000100.0),
        replace(FACTS, program="sleep"),
        replace(FACTS, directory="/srv/other"),
        replace(FACTS, program=None, directory="/srv/other"),
    ],
)
def test_a_process_that_disagrees_in_anything_is_a_stranger(facts: ProcessFacts) -> None:
    assert identify(PID_FILE, facts, "/srv/data") is Holder.STRANGER


@pytest.mark.parametrize("facts", [replace(FACTS, program=None), replace(FACTS, directory=None)])
def test_a_process_that_hides_something_is_unknown(facts: ProcessFacts) -> None:
    assert identify(PID_FILE, facts, "/srv/data") is Holder.UNKNOWN


def test_a_single_user_backend_is_never_taken_for_the_server() -> None:
    single = replace(PID_FILE, is_postmaster=False)
    assert identify(single, FACTS, "/srv/data") is Holder.UNKNOWN


@pytest.mark.parametrize(
    ("is_initialized", "pid_file", "holder", "state"),
    [
        (False, None, Holder.NOBODY, State.VOID),
        (True, None, Holder.NOBODY, State.STOPPED),
        (True, PID_FILE, Holder.NOBODY, State.CRASHED),
        (True, PID_FILE, Holder.STRANGER, State.FOREIGN),
        (True, PID_FILE, Holder.UNKNOWN, State.FOREIGN),
        (True, replace(PID_FILE, status=""), Holder.SERVER, State.STARTING),
        (True, replace(PID_FILE, status="starting"), Holder.SERVER, State.STARTING),
        (True, replace(PID_FILE, status="standby"), Holder.SERVER, State.STARTING),
        (True, PID_FILE, Holder.SERVER, State.READY),
        (True, replace(PID_FILE, status="stopping"), Holder.SERVER, State.STOPPING),
    ],
)
def test_observations_amount_to_a_state(
    is_initialized: bool, pid_file: PidFile | None, holder: Holder, state: State
) -> None:
    found = decide_state(is_initialized=is_initialized, pid_file=pid_file, holder=holder)
    assert found is state


def test_an_empty_log_explains_nothing() -> None:
    assert explain_log(" \n") == ""


def test_a_log_explains_itself_by_its_last_fatal_line() -> None:
    log = 'x LOG:  starting\nx FATAL:  could not access file "nope": No such file or directory\n'
    assert explain_log(log).startswith(': could not access file "nope": No such file or directory;')
    assert "LOG:  starting" in explain_log(log)


@pytest.mark.parametrize(
    "line",
    [
        'could not bind IPv4 address "127.0.0.1": Address already in use',
        'could not bind IPv6 address "::1": Address already in use',
        "could not bind IPv4 socket: Address already in use",
    ],
)
def test_a_port_that_is_taken_is_said_in_a_sentence(line: str) -> None:
    log = (
        f"LOG:  {line}\nHINT:  Is another postmaster already running on port 7777? If not, wait.\n"
        "FATAL:  could not create any TCP/IP sockets\n"
    )
    assert explain_log(log).startswith(": port 7777 is taken by another server;")
