"""The files of one try: what is in them, who may read them, what they do when the disk is full."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copyd.loading.rejects import LoadedTable, Manifest, RejectsNotKeptError, kept, rows
from copyd.names import TableName
from tests.support.reject_files import NOW, TABLES, T, files, pending, published, reject, tree

ONE = "orders/eu/r1"
ALL = {f"{ONE}/{name}" for name in ("public.t.dat", "public.t.log", "public.t.jsonl", "run.json")}


def test_without_a_reject_nothing_is_made(tmp_path: Path) -> None:
    made = files(tmp_path / "rejects")
    made.write_manifest(ledger="copyd", tables=TABLES, now=NOW)
    made.publish()
    made.discard()
    made.close()
    assert made.rows == 0
    assert not (tmp_path / "rejects").exists()


def test_until_the_commit_is_certain_the_folder_is_pending(tmp_path: Path) -> None:
    made = pending(tmp_path)
    assert tree(tmp_path) == {name.replace("r1/", "r1.pending/") for name in ALL}
    made.publish()
    assert tree(tmp_path) == ALL
    assert made.path == tmp_path / ONE


def test_after_a_rollback_nothing_is_left(tmp_path: Path) -> None:
    for has_manifest in (False, True):
        made = pending(tmp_path, has_manifest=has_manifest)
        made.discard()
        made.discard()
        assert tree(tmp_path) == set()


def test_publishing_twice_does_no_harm(tmp_path: Path) -> None:
    made = pending(tmp_path)
    made.publish()
    made.publish()
    made.discard()
    assert tree(tmp_path) == ALL


def test_the_three_files_say_what_was_refused_and_why(tmp_path: Path) -> None:
    first = reject(
        7,
        b"\\\\x\t\xff\n",
        message="bad\nvalue",
        detail="d\x1b[2J",
        hint="h",
        context='COPY t, line 3, column id: "x"',
        column="id",
        constraint="c",
    )
    folder = published(tmp_path, first, reject(9))
    assert (folder / "public.t.dat").read_bytes() == b"\\\\x\t\xff\nx\tnote\n"
    assert (folder / "public.t.log").read_text() == (
        "row 7, batch 1\n"
        "ERROR:  22P02: bad\n\tvalue\n"
        "DETAIL:  d\\x1b[2J\n"
        "HINT:  h\n"
        'CONTEXT:  COPY t, line 3, column id: "x"\n'
        "COLUMN NAME:  id\n"
        "CONSTRAINT NAME:  c\n\n"
        "row 9, batch 1\nERROR:  22P02: invalid input syntax\n\n"
    )
    lines = (folder / "public.t.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "schema": "public",
            "table": "t",
            "ordinal": 7,
            "batch": 1,
            "sqlstate": "22P02",
            "message": "bad\nvalue",
            "detail": "d\x1b[2J",
            "hint": "h",
            "context": 'COPY t, line 3, column id: "x"',
            "constraint": "c",
            "column": "id",
            "offset": 0,
            "length": 6,
        },
        {
            "schema": "public",
            "table": "t",
            "ordinal": 9,
            "batch": 1,
            "sqlstate": "22P02",
            "message": "invalid input syntax",
            "detail": None,
            "hint": None,
            "context": None,
            "constraint": None,
            "column": None,
            "offset": 6,
            "length": 7,
        },
    ]


def test_the_manifest_says_how_the_rows_are_loaded_again(tmp_path: Path) -> None:
    made = files(tmp_path)
    made.add(T, reject())
    table = LoadedTable("public", "t", ("id", "Note"), None)
    made.write_manifest(ledger="copyd", tables=[table], now=NOW)
    made.publish()
    (found,) = kept(tmp_path, "orders")
    assert found.statement == ("COPY public.t (id, \"Note\") FROM STDIN WITH (ENCODING 'UTF8')")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([T, TableName("public", "../../x"), TableName("Ä" * 31, "n" * 63)]),
            st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"") + b"\n"),
            st.text(st.characters(), max_size=20),
        ),
        min_size=1,
        max_size=12,
    )
)  # fmt: skip
def test_what_goes_in_comes_out_whatever_it_is(
    tmp_path_factory: pytest.TempPathFactory, given_: list[tuple[TableName, bytes, str]]
) -> None:
    root = tmp_path_factory.mktemp("rejects")
    made = files(root)
    expected: dict[TableName, list[tuple[int, bytes, str]]] = {}
    for ordinal, (table, row, message) in enumerate(given_, 1):
        made.add(table, reject(ordinal, row, message=message))
        expected.setdefault(table, []).append((ordinal, row, message))
    tables = [LoadedTable(*table, (), None) for table in expected]
    made.write_manifest(ledger="copyd", tables=tables, now=NOW)
    made.publish()
    found = {
        each.table: [(row.record.ordinal, row.row, row.record.message) for row in rows(root, each)]
        for each in kept(root, "orders")
    }
    assert found == expected
    data = {path.read_bytes() for path in root.rglob("*.dat")}
    assert data == {b"".join(row for _, row, _ in each) for each in expected.values()}
    assert all(path.parent == made.path for path in root.rglob("*") if path.is_file())


def test_large_rows_and_many_are_written_whole(tmp_path: Path) -> None:
    rows = [b"x" * size + b"\n" for size in (0, 1, 70_000, 3_000_000, *range(2_000))]
    folder = published(tmp_path, *(reject(n, row) for n, row in enumerate(rows)))
    assert (folder / "public.t.dat").read_bytes() == b"".join(rows)


def test_folders_and_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        root = tmp_path / "state/rejects"
        published(root)
    finally:
        os.umask(before)
    for path in (root.parent, root, *root.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_later_try_of_the_run_starts_anew(tmp_path: Path) -> None:
    lost = pending(tmp_path, reject(1, b"old\n"), has_manifest=False)
    again = pending(tmp_path, reject(1, b"new\n"))
    with pytest.raises(RejectsNotKeptError):
        lost.write_manifest(ledger="copyd", tables=TABLES, now=NOW)
    lost.discard()
    again.publish()
    assert (tmp_path / ONE / "public.t.dat").read_bytes() == b"new\n"


def test_the_manifest_of_an_earlier_try_is_not_overwritten(tmp_path: Path) -> None:
    unknown = pending(tmp_path)
    unknown.close()
    with pytest.raises(RejectsNotKeptError, match="whose COMMIT is in doubt"):
        files(tmp_path).add(T, reject())
    assert (tmp_path / f"{ONE}.pending/run.json").exists()


def test_two_destinations_of_a_run_have_folders_of_their_own(tmp_path: Path) -> None:
    for name in ("eu", "us"):
        made = files(tmp_path, destination=name)
        made.add(T, reject())
        made.write_manifest(ledger="copyd", tables=TABLES, now=NOW)
        made.publish()
    assert {each.destination for each in kept(tmp_path, "orders")} == {"eu", "us"}


def test_a_folder_that_somebody_removed_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    made = pending(tmp_path)
    (tmp_path / f"{ONE}.pending").rename(tmp_path / "elsewhere")
    with pytest.raises(RejectsNotKeptError, match="was removed by another process"):
        made.publish()
    made.close()


def test_files_with_a_manifest_take_no_more_rows(tmp_path: Path) -> None:
    made = pending(tmp_path)
    with pytest.raises(RuntimeError, match="have a manifest already"):
        made.add(T, reject())
    made.close()


def test_a_manifest_never_prints_a_row(tmp_path: Path) -> None:
    manifest = Manifest("orders", "eu", "r1", "copyd", TABLES, NOW)
    assert "hush" not in repr(reject(1, b"hush\n", message="hush")) + repr(manifest)
    made = pending(tmp_path, reject(1, b"hush\n", message="hush"))
    assert b"hush" not in (tmp_path / f"{ONE}.pending/run.json").read_bytes()
    made.close()


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.support.reject_files import TABLES, T, files, reject
from copyd.loading.rejects import RejectsNotKeptError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
made = files(Path(sys.argv[1]))
said = []
for step in (
    lambda: [made.add(T, reject(n, b"x" * 1000 + b"\\n")) for n in range(100)],
    lambda: made.write_manifest(ledger="copyd", tables=TABLES, now=1.0),
):
    try:
        step()
    except RejectsNotKeptError as error:
        said.append(str(error))
        assert error.__cause__ is None
made.discard()
print("\\n".join(said))
"""


@pytest.mark.parametrize("limit", [50_000, 90_000])
def test_a_disk_that_is_full_is_one_sentence_and_no_manifest(tmp_path: Path, limit: int) -> None:
    """The limit stands for the disk: writes behind it fail, at once or when they are flushed."""
    arguments = [str(tmp_path), str(Path.cwd()), str(limit)]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    first, *others = done.stdout.splitlines()
    assert first == f"rejects cannot be written to {tmp_path / ONE}: File too large"
    assert all("are incomplete" in each for each in others)
    assert tree(tmp_path) == set()
