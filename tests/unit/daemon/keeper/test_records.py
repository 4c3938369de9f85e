"""What is noted about a cluster, and that it is read back as it was written."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copyd.cluster.lifecycle import PidFile
from copyd.daemon.keeper.records import START_WINDOW, Files, Folders, Made, Record, ServerNote

PID_FILE = PidFile(pid=7, is_postmaster=True, data_directory="/srv/a", started=1000)
RECORDS = st.builds(
    Record,
    made=st.sampled_from(Made),
    begun_at=st.floats(0, 1e10),
    server=st.none()
    | st.builds(ServerNote, st.none() | st.integers(1), st.integers(0), st.booleans()),
    former=st.dictionaries(st.text(), st.none() | st.text()),
    former_hba=st.none() | st.text(),
)


@given(RECORDS)
def test_a_record_is_read_back_as_it_was_written(record: Record) -> None:
    assert Record.of_json(record.as_json()) == record


@given(RECORDS, st.data())
def test_a_record_that_is_cut_anywhere_is_one_of_a_cluster_that_was_made(
    record: Record, data: st.DataObject
) -> None:
    text = record.as_json().rstrip()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    read = Record.of_json(cut)
    assert read.made is Made.DONE
    assert not read.is_ours(PID_FILE)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"made": "perhaps"}', "\x00"])
def test_what_is_no_record_is_taken_for_one_of_a_cluster_that_was_made(text: str) -> None:
    assert Record.of_json(text).made is Made.DONE


@pytest.mark.parametrize(
    ("note", "is_ours"),
    [
        (None, False),
        (ServerNote(7, 1000, is_ours=True), True),
        (ServerNote(7, 1000, is_ours=False), False),
        (ServerNote(7, 999, is_ours=True), False),
        (ServerNote(8, 1000, is_ours=True), False),
        # A daemon that was killed between starting a server and seeing it.
        (ServerNote(None, 1000, is_ours=True), True),
        (ServerNote(None, 1001, is_ours=True), True),
        (ServerNote(None, 1002, is_ours=True), False),
        (ServerNote(None, 1000 - START_WINDOW, is_ours=True), False),
    ],
)
def test_a_server_is_known_again_by_its_process_id_and_start(
    note: ServerNote | None, is_ours: bool
) -> None:
    assert Record(server=note).is_ours(PID_FILE) is is_ours


def test_where_none_runs_the_last_server_says_whose_the_next_one_is() -> None:
    assert Record().is_ours(None)
    assert Record(server=ServerNote(7, 1, is_ours=True)).is_ours(None)
    assert not Record(server=ServerNote(7, 1, is_ours=False)).is_ours(None)


def test_a_files_name_follows_from_the_data_directory_however_it_is_written() -> None:
    folders = Folders(Path("/s"), Path("/r"))
    files = folders.files_of(Path("/srv/a"))
    assert files == folders.files_of(Path("/srv/./b/../a/"))
    assert files != folders.files_of(Path("/mnt/a"))
    assert files.record.name.startswith("a-")


def test_a_socket_whose_path_would_be_too_long_goes_elsewhere() -> None:
    short, long = Folders(Path("/s"), Path("/r")), Folders(Path("/s"), Path("/r" + "x" * 90))
    assert short.sockets("a") == Path("/r/clusters/a")
    assert long.sockets("a") is None


def test_what_is_written_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    files = Files(tmp_path / "clusters", "a")
    files.write(Record(made=Made.DONE))
    files.write_password("secret")
    for path in (files.record, files.passfile):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in files.folder.iterdir()) == ["a.json", "a.pgpass"]


@pytest.mark.parametrize("password", ["plain", "a:b", "back\\slash", "\\:", "sp ace'\"é", ":\\"])
def test_a_password_is_read_back_as_it_was_kept(tmp_path: Path, password: str) -> None:
    files = Files(tmp_path, "a")
    assert files.password() is None
    files.write_password(password)
    assert files.password() == password


def test_a_password_file_that_others_can_read_is_written_anew(tmp_path: Path) -> None:
    files = Files(tmp_path, "a")
    files.write_password("secret")
    files.passfile.chmod(0o644)
    files.write_password("secret")
    assert stat.S_IMODE(files.passfile.stat().st_mode) == 0o600
