"""What earlier runs left: what is resolved, what stays, what goes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from copyd.errors import CopydError, SetupError, UnsafeFolderError
from copyd.loading.rejects import (
    CommitOutcome,
    LoadedTable,
    Manifest,
    Resolution,
    kept,
    prepare_root,
    prune,
    resolve,
)
from tests.support.reject_files import NOW, TABLES, T, files, pending, published, reject, tree

if TYPE_CHECKING:
    from pathlib import Path

RUN = "orders/eu/r1"
LATER = NOW + 100.0


def nobody(manifest: Manifest) -> CommitOutcome:
    raise AssertionError(f"nobody was to be asked about {manifest.run}")


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (("r1", "before"), CommitOutcome.COMMITTED),
        (("next", "r1"), CommitOutcome.COMMITTED),
        (("before", "older"), CommitOutcome.ROLLED_BACK),
        (("next", "before"), CommitOutcome.ROLLED_BACK),
        (("third", "second"), CommitOutcome.UNDECIDED),
        ((None, None), CommitOutcome.UNDECIDED),
    ],
)
def test_the_ledger_decides_until_two_other_runs_were_committed(
    last: tuple[str | None, str | None], outcome: CommitOutcome
) -> None:
    assert Manifest("orders", "eu", "r1", "copyd", TABLES, NOW).outcome(TABLES[0], last) is outcome


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (("r1", None), CommitOutcome.COMMITTED),
        ((None, None), CommitOutcome.ROLLED_BACK),
        (("next", None), CommitOutcome.ROLLED_BACK),
        (("third", "second"), CommitOutcome.UNDECIDED),
    ],
)
def test_the_ledger_decides_of_a_first_run_too(
    last: tuple[str | None, str | None], outcome: CommitOutcome
) -> None:
    table = LoadedTable("public", "t", (), None)
    assert Manifest("orders", "eu", "r1", "copyd", (table,), NOW).outcome(table, last) is outcome


def test_what_was_committed_is_published(tmp_path: Path) -> None:
    pending(tmp_path).close()
    asked: list[Manifest] = []

    def ask(manifest: Manifest) -> CommitOutcome:
        asked.append(manifest)
        return CommitOutcome.COMMITTED

    assert resolve(tmp_path, "orders", ask) == (Resolution("eu", "r1", CommitOutcome.COMMITTED),)
    assert asked == [Manifest("orders", "eu", "r1", "copyd", TABLES, NOW)]
    assert {name.rpartition("/")[0] for name in tree(tmp_path)} == {RUN}
    assert resolve(tmp_path, "orders", nobody) == ()


def test_what_was_rolled_back_is_removed(tmp_path: Path) -> None:
    pending(tmp_path).close()
    resolved = resolve(tmp_path, "orders", lambda _: CommitOutcome.ROLLED_BACK)
    assert resolved == (Resolution("eu", "r1", CommitOutcome.ROLLED_BACK),)
    assert tree(tmp_path) == set()


def test_what_has_no_manifest_is_removed_and_nobody_is_asked(tmp_path: Path) -> None:
    pending(tmp_path, has_manifest=False).close()
    assert resolve(tmp_path, "orders", nobody) == (
        Resolution("eu", "r1", CommitOutcome.ROLLED_BACK),
    )
    assert tree(tmp_path) == set()


def test_what_nobody_can_say_stays_and_is_told(tmp_path: Path) -> None:
    pending(tmp_path).close()
    before = tree(tmp_path)

    def unreachable(_: Manifest) -> CommitOutcome:
        raise CopydError("cannot connect to eu: it is night")

    (resolved,) = resolve(tmp_path, "orders", unreachable)
    assert (resolved.outcome, resolved.reason) == (
        CommitOutcome.UNDECIDED,
        "cannot connect to eu: it is night",
    )
    (resolved,) = resolve(tmp_path, "orders", lambda _: CommitOutcome.UNDECIDED)
    assert "too many runs" in str(resolved.reason)
    assert prune(tmp_path, "orders", keep=1.0, now=LATER) == 0
    assert tree(tmp_path) == before


def test_a_manifest_that_cannot_be_read_decides_nothing(tmp_path: Path) -> None:
    pending(tmp_path).close()
    (tmp_path / f"{RUN}.pending/run.json").write_text("{")
    (resolved,) = resolve(tmp_path, "orders", nobody)
    assert resolved.outcome is CommitOutcome.UNDECIDED
    assert (tmp_path / f"{RUN}.pending/public.t.dat").exists()


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_run_that_is_still_going_is_left_alone(tmp_path: Path, has_manifest: bool) -> None:
    going = pending(tmp_path, has_manifest=has_manifest)
    before = tree(tmp_path)
    assert resolve(tmp_path, "orders", nobody) == ()
    assert tree(tmp_path) == before
    going.discard()


def test_only_the_transfer_that_is_named_is_resolved(tmp_path: Path) -> None:
    pending(tmp_path).close()
    assert resolve(tmp_path, "other", nobody) == ()
    assert resolve(tmp_path / "missing", "orders", nobody) == ()


def test_rejects_are_removed_when_they_were_kept_long_enough(tmp_path: Path) -> None:
    published(tmp_path)
    assert prune(tmp_path, "orders", keep=100.0, now=LATER) == 0
    assert prune(tmp_path, "other", keep=1.0, now=LATER) == 0
    assert prune(tmp_path, "orders", keep=99.0, now=LATER) == 1
    assert tree(tmp_path) == set()


def test_what_is_not_copyds_is_never_removed(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (folder / "notes.txt").write_text("mine")
    (tmp_path / "orders/eu/mine").mkdir()
    (tmp_path / "orders/readme").write_text("mine")
    (tmp_path / "orders/eu/readme").write_text("mine")
    before = tree(tmp_path)
    assert prune(tmp_path, "orders", keep=1.0, now=LATER) == 0
    assert resolve(tmp_path, "orders", nobody) == ()
    assert tree(tmp_path) == before
    assert (tmp_path / "orders/eu/mine").is_dir()
    assert [each.rows for each in kept(tmp_path, "orders")] == [1]


@pytest.mark.parametrize("place", ["orders", "orders/eu", f"{RUN}.pending"])
def test_a_link_below_the_root_is_refused_in_one_sentence(tmp_path: Path, place: str) -> None:
    root, away = tmp_path / "rejects", tmp_path / "away"
    pending(root).close()
    (root / place).rename(away)
    (root / place).symlink_to(away)
    before = tree(away)
    for step in (
        lambda: files(root).add(T, reject()),
        lambda: resolve(root, "orders", lambda _: CommitOutcome.ROLLED_BACK),
        lambda: list(kept(root, "orders")),
    ):
        with pytest.raises(UnsafeFolderError, match="is a link or a file where a folder"):
            step()
    assert tree(away) == before


def test_a_link_among_the_files_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    root = tmp_path / "rejects"
    folder = published(root)
    (folder / "public.t.dat").unlink()
    (folder / "public.t.dat").symlink_to(victim)
    assert prune(root, "orders", keep=1.0, now=LATER) == 1
    assert victim.read_text() == "precious"
    assert tree(root) == set()


def test_a_link_that_waits_for_a_file_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    made = files(tmp_path / "rejects")
    made.add(T, reject())
    stem = tmp_path / "rejects" / f"{RUN}.pending"
    (stem / "public.u.dat").symlink_to(victim)
    with pytest.raises(CopydError, match="File exists"):
        made.add(T._replace(name="u"), reject())
    made.discard()
    assert not victim.exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("place", ["state", "state/rejects", "state/rejects/orders"])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, place: str, mode: int) -> None:
    root = tmp_path / "state/rejects"
    published(root)
    (tmp_path / place).chmod(mode)
    with pytest.raises(SetupError, match=f"is writable by other users .mode {mode:o}.*chmod go-w"):
        files(root).add(T, reject())
    with pytest.raises(SetupError):
        resolve(root, "orders", nobody)
    if place != "state/rejects/orders":
        with pytest.raises(SetupError):
            prepare_root(root)


def test_a_folder_far_out_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "out/state/rejects"
    prepare_root(root)
    (tmp_path / "out").chmod(0o777)
    with pytest.raises(SetupError, match="who could replace what is in it: chmod o-w"):
        prepare_root(root)
    (tmp_path / "out").chmod(0o1777)  # sticky, as /tmp is
    prepare_root(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
@pytest.mark.parametrize("place", ["state", "state/rejects", "state/rejects/orders"])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, place: str) -> None:
    root = tmp_path / "state/rejects"
    published(root)
    os.chown(tmp_path / place, 12345, -1)
    with pytest.raises(SetupError, match=r"belongs to user 12345.*copyd runs as user 0"):
        files(root).add(T, reject())
    assert [each.rows for each in kept(root, "orders")] == [1]  # looking is allowed


def test_a_folder_that_cannot_be_made_is_an_error_of_the_set_up(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be used for rejects: Not a directory"):
        prepare_root(tmp_path / "file/rejects")
