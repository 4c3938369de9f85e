"""Looking at processes: the witnesses are this very process and children made for the purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from copyd.cluster.lifecycle import Holder
from copyd.cluster.postmaster import Postmaster, attachments, observe_process


def write_lock(folder: Path, pid: int, started: float) -> None:
    (folder / "postmaster.pid").write_text(f"{pid}\n{folder}\n{int(started)}\n5432\n\n\n\nready\n")


def test_a_living_process_shows_its_start_program_and_directory() -> None:
    facts = observe_process(os.getpid())
    assert facts is not None
    assert 0 <= time.time() - facts.started < 24 * 3600
    assert facts.program == Path(sys.executable).resolve().name
    assert facts.directory == str(Path.cwd())


def test_a_process_that_is_gone_shows_nothing() -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        child.wait()
    assert observe_process(child.pid) is None


def test_a_process_that_ended_but_was_not_waited_for_counts_as_gone() -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert observe_process(child.pid) is None


def test_without_a_lock_file_there_is_nobody(tmp_path: Path) -> None:
    assert Postmaster.observe(tmp_path) is None
    assert Postmaster.observe(tmp_path / "absent") is None


def test_a_lock_file_of_an_ended_process_is_held_by_nobody(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        child.wait()
    write_lock(tmp_path, child.pid, time.time())
    postmaster = Postmaster.observe(tmp_path)
    assert postmaster is not None
    assert postmaster.holder is Holder.NOBODY


def test_a_stranger_is_neither_believed_nor_signalled(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, cwd=tmp_path) as stranger:
        write_lock(tmp_path, stranger.pid, time.time())
        postmaster = Postmaster.observe(tmp_path)
        assert postmaster is not None
        assert postmaster.holder is Holder.STRANGER
        assert postmaster.signal(signal.SIGKILL, tmp_path) is False
        stranger.communicate()
    assert stranger.returncode == 0


def test_a_lock_file_that_changed_hands_is_not_signalled(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as first:
        write_lock(tmp_path, first.pid, time.time())
        seen = Postmaster.observe(tmp_path)
        assert seen is not None
        write_lock(tmp_path, os.getpid(), time.time())
        assert seen.signal(signal.SIGKILL, tmp_path) is False
        first.communicate()
    assert first.returncode == 0


def test_a_segment_that_does_not_exist_is_attached_to_by_nobody() -> None:
    assert attachments(None) == 0
    assert attachments(2**31 - 1) == 0
