"""All keepers together, of clusters that are not there: nothing is made, and no server is started."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from copyd.config import Cluster as Section
from copyd.daemon.keeper import Folders, Keepers
from copyd.events import ClusterDown

if TYPE_CHECKING:
    from pathlib import Path

    from copyd.events import Event

TIMEOUT = 30.0


def section(folder: Path, name: str) -> Section:
    return Section.model_validate({"data_directory": str(folder / name)})


def names(keepers: Keepers) -> list[str]:
    return [each.name for each in keepers.status()]


def test_no_cluster_is_begun_once_all_were_stopped(tmp_path: Path) -> None:
    keepers = Keepers(Folders(tmp_path, tmp_path), lambda _: None)
    keepers.apply({"a": section(tmp_path, "a")})
    assert keepers.stop_all(TIMEOUT) == ()
    keepers.apply({name: section(tmp_path, name) for name in ("a", "b")})
    assert names(keepers) == ["a"]
    keepers.stop_all(TIMEOUT)


def test_no_cluster_is_begun_beside_the_stopping_of_the_others(tmp_path: Path) -> None:
    is_held, may_end = threading.Event(), threading.Event()

    def hold_the_first(event: Event) -> None:
        if isinstance(event, ClusterDown) and event.cluster == "a":
            is_held.set()
            assert may_end.wait(TIMEOUT)

    keepers = Keepers(Folders(tmp_path, tmp_path), hold_the_first)
    sections = {name: section(tmp_path, name) for name in ("a", "b", "c")}
    keepers.apply({name: sections[name] for name in ("a", "b")})
    assert is_held.wait(TIMEOUT)
    (last,) = [each for each in threading.enumerate() if each.name == "copyd-keeper-b"]
    found: list[tuple[str, ...]] = []
    stopping = threading.Thread(target=lambda: found.append(keepers.stop_all(TIMEOUT)))
    stopping.start()
    last.join(TIMEOUT)  # it has ended, so all are being stopped; the first is waited for
    keepers.apply(sections)
    assert names(keepers) == ["a", "b"]
    may_end.set()
    stopping.join(TIMEOUT)
    assert found == [()]


@pytest.mark.parametrize("name", ["b", ""])
def test_a_cluster_that_is_not_kept_is_not_up_and_not_lent(tmp_path: Path, name: str) -> None:
    keepers = Keepers(Folders(tmp_path, tmp_path), lambda _: None)
    keepers.apply({})
    assert not keepers.is_up(name)
    assert keepers.borrow(name) is None
