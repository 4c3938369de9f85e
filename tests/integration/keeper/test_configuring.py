"""Settings and hba of clusters: reloaded, restarted where that is allowed, refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from copyd.cluster import State
from copyd.events import ClusterConfigured, ClusterDown, ClusterRestarted, ClusterUp
from tests.support.keepers import TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.keepers import Home

SCRAM = "local all all scram-sha-256"


def hba_file(home: Home) -> Path:
    return home.path / "a" / "pg_hba.conf"


def settings_file(home: Home) -> Path:
    return home.path / "a" / "postgresql.conf"


def test_a_changed_setting_is_reloaded(home: Home) -> None:
    home.bring_up(a=home.section(settings={"work_mem": "8MB"}))
    assert home.ask("SHOW work_mem") == "8MB"
    pid = home.cluster().pid()
    home.apply(a=home.section(settings={"work_mem": "9MB"}))
    assert home.told.wait_for(ClusterConfigured, 2) == ClusterConfigured(
        "a", changed=("work_mem",), pending_restart=(), problems=()
    )
    assert home.ask("SHOW work_mem") == "9MB"
    assert home.cluster().pid() == pid


def test_a_setting_that_is_given_up_is_as_it_was_before(home: Home) -> None:
    home.bring_up(a=home.section())
    home.apply(a=home.section(settings={"work_mem": "9MB", "listen_addresses": "127.0.0.1"}))
    home.told.wait_for(ClusterConfigured, 2)
    home.apply(a=home.section())
    home.told.wait_for(ClusterConfigured, 3)
    assert home.ask("SHOW work_mem") == "4MB"
    assert home.cluster().settings["listen_addresses"] == ""


def test_a_setting_that_needs_a_restart_is_named_and_waits(home: Home) -> None:
    home.bring_up(a=home.section())
    pid = home.cluster().pid()
    home.apply(a=home.section(settings={"max_connections": 30}))
    told = home.told.wait_for(ClusterConfigured, 2)
    assert told.pending_restart == ("max_connections",)
    home.apply(a=home.section(settings={"max_connections": 30, "work_mem": "9MB"}))
    home.told.wait_for(ClusterConfigured, 3)
    assert home.status().pending_restart == ("max_connections",)
    assert home.keepers.is_up("a")
    assert home.cluster().pid() == pid


def test_a_setting_that_needs_a_restart_gets_it_where_that_is_allowed(home: Home) -> None:
    home.bring_up(a=home.section())
    home.apply(a=home.section(settings={"max_connections": 30}, allow_restart=True))
    home.told.wait_for(ClusterUp, 2)
    assert home.ask("SHOW max_connections") == "30"
    assert home.status().pending_restart == ()
    assert home.told.of(ClusterRestarted) == [ClusterRestarted("a")]
    assert "restarts for its settings: max_connections" in home.told.of(ClusterDown)[0].cause


def test_a_restart_waits_for_whoever_has_borrowed_the_cluster(home: Home) -> None:
    home.bring_up(a=home.section())
    give_back = home.keepers.borrow("a")
    assert give_back is not None
    home.apply(a=home.section(settings={"max_connections": 30}, allow_restart=True))
    told = home.told.wait_for(ClusterConfigured, 2)
    assert told.pending_restart == ("max_connections",)
    with psycopg.connect(home.conninfo()) as run:
        while (refused := home.keepers.borrow("a")) is not None:
            refused()  # until the keeper has seen that a restart is due
        assert not home.keepers.is_up("a")
        assert home.status().is_up
        assert run.execute("SELECT 1").fetchone() == (1,)
        assert home.told.of(ClusterDown) == []
    give_back()
    home.told.wait_for(ClusterUp, 2)
    again = home.keepers.borrow("a")
    assert again is not None
    again()


def test_a_cluster_that_is_not_up_cannot_be_borrowed(home: Home) -> None:
    home.apply(a=home.section(init=False))
    home.wait_for_state("refused")
    assert home.keepers.borrow("a") is None
    assert home.keepers.borrow("unknown") is None


def test_an_adopted_cluster_is_not_restarted_for_its_settings(home: Home) -> None:
    foreign, later = home.started_by_hand()
    section = later.section(settings={"max_connections": 30}, allow_restart=True)
    later.bring_up(a=section)
    assert later.status().pending_restart == ("max_connections",)
    assert later.told.of(ClusterRestarted) == []
    later.keepers.stop_all(TIMEOUT)
    assert foreign.state() is State.READY


@pytest.mark.parametrize("name", ["work_mem", "max_connections"])
def test_settings_that_the_server_refuses_change_nothing_and_their_values_are_not_told(
    home: Home, name: str
) -> None:
    home.bring_up(a=home.section())
    before = settings_file(home).read_text()
    home.apply(a=home.section(settings={name: "hunter2"}))
    told = home.told.wait_for(ClusterConfigured, 2)
    (problem,) = told.problems
    assert (
        f'settings refused, the old ones are kept: invalid value for parameter "{name}"' in problem
    )
    assert "hunter2" not in problem
    assert settings_file(home).read_text() == before
    assert home.keepers.is_up("a")
    assert home.status().last_error == problem


def test_a_server_starts_with_its_former_settings_where_new_ones_are_refused(home: Home) -> None:
    home.bring_up(a=home.section(settings={"work_mem": "lots"}))
    assert "work_mem" in (home.status().last_error or "")
    assert home.ask("SHOW work_mem") == "4MB"


def test_a_setting_that_another_file_overrides_is_told(home: Home) -> None:
    home.bring_up(a=home.section())
    with psycopg.connect(home.conninfo(), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET work_mem = '5MB'")
    home.apply(a=home.section(settings={"work_mem": "9MB"}))
    told = home.told.wait_for(ClusterConfigured, 2)
    assert "postgresql.auto.conf, line 3, overrides it" in told.problems[0]


def test_the_hba_is_written_and_holds_at_once(home: Home) -> None:
    before = "# written by hand"
    home.bring_up(a=home.section(hba=f"{before}\n{SCRAM}\nlocal all nobody reject"))
    assert hba_file(home).read_text().startswith(before)
    assert home.ask("SELECT count(*) FROM pg_hba_file_rules") == 2


def test_an_hba_that_is_given_up_is_as_init_wrote_it(home: Home) -> None:
    home.bring_up(a=home.section())
    made = hba_file(home).read_text()
    home.apply(a=home.section(hba=SCRAM))
    home.told.wait_for(ClusterConfigured, 2)
    assert hba_file(home).read_text() == f"{SCRAM}\n"
    home.apply(a=home.section())
    home.told.wait_for(ClusterConfigured, 3)
    assert hba_file(home).read_text() == made


def test_an_hba_with_errors_is_not_taken_and_they_are_told_with_their_lines(home: Home) -> None:
    home.bring_up(a=home.section())
    made = hba_file(home).read_text()
    home.apply(a=home.section(hba=f"{SCRAM}\nlocal all all psychic"))
    told = home.told.wait_for(ClusterConfigured, 2)
    assert told.problems == (
        'hba refused, the old file is kept: line 2: invalid authentication method "psychic"',
    )
    assert hba_file(home).read_text() == made
    assert home.ask("SELECT 1") == 1


def test_an_hba_that_locks_copyd_out_is_told(home: Home) -> None:
    home.bring_up(a=home.section())
    home.apply(a=home.section(hba="local all all reject"))
    told = home.told.wait_for(ClusterConfigured, 2)
    assert "cannot query its configuration" in told.problems[0]


def test_a_file_that_is_a_link_to_another_one_is_not_written(home: Home) -> None:
    home.bring_up(a=home.section())
    victim = home.path / "victim"
    victim.write_text("precious")
    hba_file(home).unlink()
    hba_file(home).symlink_to(victim)
    home.apply(a=home.section(hba=SCRAM))
    told = home.told.wait_for(ClusterConfigured, 2)
    assert "is not a plain file" in told.problems[0]
    assert victim.read_text() == "precious"
