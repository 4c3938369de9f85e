"""``copyd run`` as the installed program: it schedules, obeys, reloads and ends in order."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from copyd.cluster.poll import wait_for
from copyd.daemon import control
from copyd.errors import CopydError
from tests.support import program
from tests.support.daemon import PATIENCE, QUICK, Daemon
from tests.support.fanout import empty
from tests.support.resource_usage import thread_arenas
from tests.support.sql import ask, content, execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

KEYED = "CREATE TABLE t (id int PRIMARY KEY, note text)"
FIVE = "INSERT INTO t SELECT i, 'note ' || i FROM generate_series(1, 5) i"
PLACES = ("shop", "eu", "us")
NOWHERE = "host=127.0.0.1 port=1 dbname=nowhere connect_timeout=2"


@pytest.fixture(scope="module")
def databases(server: Server) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        yield {
            place: server.tcp_conninfo(stack.enter_context(server.database())) for place in PLACES
        }


@pytest.fixture
def daemon(databases: dict[str, str], folder: Path) -> Iterator[Daemon]:
    """Three databases with a table t; a transfer of it that nothing but a trigger starts."""
    for conninfo in databases.values():
        empty(conninfo)
        execute(conninfo, KEYED)
    execute(databases["shop"], FIVE)
    with Daemon(folder, servers=dict(databases)) as made:
        made.transfers["books"] = books()
        yield made


def books(**more: Any) -> dict[str, Any]:
    return {
        "source": "shop",
        "destinations": ["eu", "us"],
        "tables": ["public.t"],
        "reintroduce": QUICK,
        **more,
    }


def is_equal(daemon: Daemon, place: str) -> bool:
    return content(daemon.servers[place], ["t"]) == content(daemon.servers["shop"], ["t"])


def slow(daemon: Daemon) -> None:
    """From now on eu takes its rows slowly: a run to it goes on for long."""
    execute(
        daemon.servers["eu"],
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(10); RETURN NEW; END'",
        "CREATE TRIGGER nap BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nap()",
    )
    daemon.transfers["books"] |= {"stall_timeout": "60s", "destinations": ["eu"]}


def await_copy(daemon: Daemon) -> None:
    """Wait until a run is in the middle of its data."""
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    assert wait_for(lambda: ask(daemon.servers["eu"], asleep) == [(1,)], timeout=PATIENCE)


def run_command(daemon: Daemon, *words: str) -> tuple[int, str, str]:
    done = program.run(*words, "--config", str(daemon.config))
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


# -- schedules ------------------------------------------------------------------------------------


def test_a_transfer_runs_again_and_again(daemon: Daemon) -> None:
    daemon.transfers["books"]["every"] = "300ms"
    daemon.start()
    daemon.await_event("run.ended", number=2, transfer="books", verdict="succeeded")
    execute(daemon.servers["shop"], "INSERT INTO t VALUES (6, 'six')")
    seen = len(daemon.events("run.ended"))
    daemon.await_event("run.ended", number=seen + 2)
    assert is_equal(daemon, "eu")
    assert is_equal(daemon, "us")
    assert daemon.end() == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize("environ", [{}, {"MALLOC_ARENA_MAX": "16"}], ids=["as it is", "told 16"])
def test_its_threads_share_one_arena_beside_the_main_one(
    daemon: Daemon, environ: dict[str, str]
) -> None:
    daemon.transfers["books"]["every"] = "200ms"
    daemon.start(env=environ)
    daemon.await_event("run.ended", number=3, verdict="succeeded")
    assert daemon.process is not None
    assert (thread_arenas(daemon.process.pid) == 1) is not bool(environ)


def test_one_transfer_never_overlaps_itself_and_what_is_missed_is_told(daemon: Daemon) -> None:
    slow(daemon)
    daemon.transfers["books"] |= {"every": "200ms", "catch_up": "skip"}
    daemon.start()
    daemon.await_event("run.started")
    daemon.await_event("run.missed", number=2, transfer="books")
    assert len(daemon.events("run.started")) == 1


def test_no_more_runs_are_under_way_than_there_are_workers(daemon: Daemon) -> None:
    slow(daemon)
    daemon.options["daemon"] = {"workers": 1}
    daemon.transfers["books"]["every"] = "1d"
    daemon.transfers["late"] = books(destinations=["us"], every="1d")
    daemon.start()
    status = daemon.await_status(lambda status: status["running"] == 1)
    states = {each["name"]: (each["state"], each["reason"]) for each in status["transfers"]}
    assert states == {
        "books": ("running", None),
        "late": ("queued", "all workers (1) are busy"),
    }


def test_a_dead_destination_hurts_no_other_and_is_left_alone_and_seen(daemon: Daemon) -> None:
    daemon.servers["gone"] = NOWHERE
    daemon.transfers["books"] |= {
        "destinations": ["eu", "gone"],
        "every": "100ms",
        "breaker": {"failures": 2, "backoff": "1h", "max_backoff": "1h"},
    }
    daemon.start()
    out = daemon.await_event("destination.out", destination="gone")
    assert out["failures"] == 2
    daemon.await_event("run.ended", number=4, verdict="succeeded")
    assert len(daemon.events("destination.ended", destination="gone")) == 2
    found = daemon.transfer("books")["destinations"]
    assert found["eu"]["state"] == "ok"
    assert found["gone"]["state"] == "out"
    assert found["gone"]["last_success"] is None
    assert "cannot connect to gone" in found["gone"]["last_error"]


def test_a_destination_that_was_left_alone_comes_back_by_itself(daemon: Daemon) -> None:
    daemon.transfers["books"] |= {
        "every": "100ms",
        "breaker": {"failures": 1, "backoff": "300ms", "max_backoff": "300ms"},
    }
    execute(daemon.servers["us"], "ALTER TABLE t RENAME TO hidden")
    daemon.start()
    daemon.await_event("destination.out", destination="us")
    execute(daemon.servers["us"], "ALTER TABLE hidden RENAME TO t")
    daemon.await_event("destination.back", destination="us")
    assert is_equal(daemon, "us")
    found = daemon.transfer("books")["destinations"]["us"]
    assert (found["state"], found["failures"], found["last_error"]) == ("ok", 0, None)


def test_a_source_that_is_gone_is_no_destinations_fault(daemon: Daemon) -> None:
    daemon.servers["shop"] = NOWHERE
    daemon.transfers["books"] |= {"every": "100ms", "breaker": {"failures": 1}}
    daemon.start()
    daemon.await_event("run.refused", number=3)
    found = daemon.transfer("books")
    assert found["last_verdict"] == "failed"
    assert "cannot connect to shop" in found["last_error"]
    assert {each["state"] for each in found["destinations"].values()} == {"failing"}
    assert daemon.events("destination.out") == []


def test_a_server_lends_no_more_connections_than_it_may(daemon: Daemon) -> None:
    slow(daemon)
    daemon.transfers["books"]["every"] = "1d"
    daemon.transfers["late"] = books(destinations=["us"], every="1d")
    daemon.write()
    text = daemon.config.read_text()
    name = '["servers"."shop"]\n'
    assert name in text
    daemon.options["servers"] = {}
    daemon.launch()
    daemon.await_event("daemon.ready")
    daemon.config.write_text(text.replace(name, f"{name}max_connections = 3\n"))
    daemon.send(signal.SIGHUP)
    daemon.await_event("config.reloaded", changes=["servers.shop changed: max_connections"])
    await_copy(daemon)
    daemon.await_event("run.ended", transfer="late")
    daemon.ask("trigger", transfer="late")
    reason = "server shop has too few free connections (max_connections = 3)"
    daemon.await_status(
        lambda status: [each["reason"] for each in status["transfers"]] == [None, reason]
    )


# -- commands -------------------------------------------------------------------------------------


def test_a_transfer_is_triggered_paused_and_resumed(daemon: Daemon) -> None:
    daemon.transfers["books"]["every"] = "1d"
    daemon.start()
    daemon.await_event("run.ended")
    assert run_command(daemon, "pause", "books") == (0, "transfer books is paused\n", "")
    assert daemon.transfer("books")["state"] == "paused"
    assert daemon.transfer("books")["next_run"] is None
    code, said, _ = run_command(daemon, "trigger", "books", "--destination", "us", "--full")
    assert (code, said) == (0, "transfer books will run\n")
    daemon.await_event("run.started", destinations=["us"])
    code, said, _ = run_command(daemon, "resume", "books")
    assert (code, said) == (0, "transfer books runs on its schedule\n")
    assert daemon.transfer("books")["next_run"] is not None


def test_a_pause_outlives_the_daemon(daemon: Daemon) -> None:
    daemon.transfers["books"]["every"] = "100ms"
    daemon.start()
    daemon.await_event("run.ended")
    daemon.ask("pause", transfer="books")
    assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
    daemon.start()
    assert daemon.transfer("books")["state"] == "paused"
    daemon.ask("resume", transfer="books")
    daemon.await_event("run.ended")


def test_what_does_not_exist_is_refused_with_a_sentence(daemon: Daemon) -> None:
    daemon.start()
    for command in ("trigger", "pause", "resume"):
        code, said, errors = run_command(daemon, command, "boks")
        assert (code, said) == (1, "")
        assert errors == "copyd: there is no transfer boks in the daemon's configuration\n"
    _, _, errors = run_command(daemon, "trigger", "books", "--destination", "asia")
    assert errors == "copyd: transfer books has no destination asia: it has eu, us\n"
    with pytest.raises(CopydError, match="does not know this command"):
        daemon.ask("dance")


def test_status_and_history_are_shown(daemon: Daemon) -> None:
    daemon.start()
    run_command(daemon, "trigger", "books")
    daemon.await_event("run.ended")
    daemon.await_status(lambda status: status["transfers"][0]["last_verdict"] == "succeeded")
    code, said, _ = run_command(daemon, "status")
    assert code == 0
    assert "copyd is ready" in said
    assert "books" in said
    code, said, _ = run_command(daemon, "status", "--json")
    destination = json.loads(said)["transfers"][0]["destinations"][0]
    assert (destination["name"], destination["last_verdict"]) == ("eu", "succeeded")
    assert destination["data_timestamp"] <= destination["last_success"]
    assert wait_for(
        lambda: json.loads(run_command(daemon, "history", "--json")[1])[0]["verdict"] is not None,
        timeout=PATIENCE,
    )
    code, said, _ = run_command(daemon, "history", "books")
    assert "eu succeeded" in said


def test_without_a_daemon_each_command_says_so(daemon: Daemon) -> None:
    daemon.write()
    for words in (["status"], ["history"], ["trigger", "books"], ["reload"]):
        code, said, errors = run_command(daemon, *words)
        assert (code, said) == (1, "")
        assert errors == f"copyd: no daemon listens at {daemon.socket}: start it with copyd run\n"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"nonsense\n", "the request is not JSON"),
        (b"[1]\n", "the request is not a JSON object"),
        (b"x" * (control.LARGEST_REQUEST + 1), "the request is not JSON"),
        (b'{"command": "trigger"}\n', "the request names no transfer"),
        (
            b'{"command": null}\n',
            "the daemon does not know this command: is it another version of copyd?",
        ),
    ],
    ids=["nonsense", "list", "too long", "no transfer", "no command"],
)
def test_a_caller_that_asks_nonsense_gets_a_sentence(
    daemon: Daemon, request_: bytes, answer: str
) -> None:
    daemon.start()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(PATIENCE)
        caller.connect(str(daemon.socket))
        caller.sendall(request_)
        caller.shutdown(socket.SHUT_WR)
        assert json.loads(caller.makefile("rb").read()) == {"error": answer}


def test_callers_that_say_nothing_do_not_keep_others_out(daemon: Daemon) -> None:
    daemon.start()
    with ExitStack() as stack:
        for _ in range(control.MOST_CALLERS + 4):
            silent = stack.enter_context(socket.socket(socket.AF_UNIX))
            silent.connect(str(daemon.socket))
        assert daemon.ask("status")["state"] == "ready"


# -- reloading ------------------------------------------------------------------------------------


def test_a_reload_changes_what_is_new_and_says_it(daemon: Daemon) -> None:
    daemon.transfers["books"]["every"] = "1d"
    daemon.start()
    daemon.await_event("run.ended")
    daemon.transfers["books"]["every"] = "100ms"
    daemon.transfers["more"] = books(destinations=["us"])
    daemon.transfers["books"]["destinations"] = ["eu"]
    daemon.options["daemon"] = {"workers": 9}
    daemon.reload()
    reloaded = daemon.await_event("config.reloaded")
    assert reloaded["changes"] == [
        "daemon changed: workers",
        "transfers.books changed: destinations, every",
        "transfers.more added",
    ]
    daemon.await_event("run.ended", number=3, transfer="books")
    status = daemon.ask("status")
    assert status["workers"] == 9
    assert [each["name"] for each in status["transfers"]] == ["books", "more"]


def test_an_invalid_file_changes_nothing_and_every_error_is_told(daemon: Daemon) -> None:
    daemon.transfers["books"]["every"] = "200ms"
    daemon.start()
    good = daemon.config.read_text()
    bad = good.replace('"200ms"', '"soon"').replace('"shop"\n', '"shoop"\n')
    daemon.config.write_text(bad)
    daemon.send(signal.SIGHUP)
    refused = daemon.await_event("config.refused")
    assert len(refused["problems"]) == 2
    assert not daemon.ask("status")["reload"]["is_successful"]
    seen = len(daemon.events("run.ended"))
    daemon.await_event("run.ended", number=seen + 2)
    code, said, errors = run_command(daemon, "reload")
    assert (code, said) == (78, "")
    assert errors.endswith("copyd: the old configuration stays in effect\n")
    assert errors.count("\n") == 3
    daemon.config.write_text(good)
    assert run_command(daemon, "reload") == (0, "nothing has changed\n", "")
    assert daemon.ask("status")["reload"]["is_successful"]


def test_a_dry_run_only_says_what_would_change(daemon: Daemon) -> None:
    daemon.start()
    daemon.transfers.clear()
    daemon.options["http"] = {"listen": "127.0.0.1:1"}
    daemon.write()
    expected = "http changed: listen; this takes effect after a restart\ntransfers.books removed\n"
    assert run_command(daemon, "reload", "--dry-run") == (0, expected, "")
    assert len(daemon.ask("status")["transfers"]) == 1
    assert run_command(daemon, "reload") == (0, expected, "")
    assert daemon.ask("status")["transfers"] == []


def test_a_run_under_way_is_not_cut_by_a_reload_that_removes_it(daemon: Daemon) -> None:
    slow(daemon)
    execute(daemon.servers["shop"], "DELETE FROM t WHERE id > 1")
    daemon.start()
    daemon.ask("trigger", transfer="books")
    await_copy(daemon)
    kept = daemon.transfers.pop("books")
    daemon.reload()
    daemon.await_event("config.reloaded")
    daemon.transfers["books"] = {**kept, "every": "100ms"}
    daemon.reload()
    daemon.await_event("config.reloaded", number=2)
    daemon.await_event("run.ended", transfer="books", verdict="succeeded")
    assert len(daemon.events("run.started")) == 1, "it overlapped itself"


def test_the_log_level_changes_without_a_restart(daemon: Daemon) -> None:
    daemon.transfers["books"]["every"] = "200ms"
    daemon.start()
    daemon.await_event("run.ended")
    daemon.options["log"] = {"level": "debug"}
    daemon.reload()
    daemon.await_event("data.relayed")


# -- the end --------------------------------------------------------------------------------------


def test_sigterm_lets_runs_end_within_their_grace(daemon: Daemon) -> None:
    slow(daemon)
    execute(daemon.servers["shop"], "DELETE FROM t WHERE id > 1")
    daemon.transfers["books"]["every"] = "1d"
    daemon.start()
    await_copy(daemon)
    assert daemon.end() == 0
    daemon.await_event("run.ended", verdict="succeeded")
    assert not daemon.socket.exists()


def test_after_its_grace_a_run_is_cut_and_changes_nothing(daemon: Daemon) -> None:
    slow(daemon)
    daemon.options["daemon"] = {"shutdown_grace": "200ms"}
    daemon.transfers["books"]["every"] = "1d"
    daemon.start()
    await_copy(daemon)
    assert daemon.end() == 0
    ended = daemon.await_event("destination.ended")
    assert ended["verdict"] == "failed"
    assert ended["cause"] == "the daemon is stopping and its shutdown_grace is over"
    assert ask(daemon.servers["eu"], "SELECT count(*) FROM t") == [(0,)]


def test_a_second_signal_ends_it_at_once(daemon: Daemon) -> None:
    slow(daemon)
    daemon.options["daemon"] = {"shutdown_grace": "1h"}
    daemon.transfers["books"]["every"] = "1d"
    daemon.start()
    await_copy(daemon)
    daemon.send(signal.SIGTERM)
    daemon.await_event("daemon.stopping")
    assert daemon.end(signal.SIGINT) == 130
    ended = daemon.await_event("destination.ended")
    assert ended["cause"] == "the daemon was told to stop at once"


def test_a_second_daemon_does_not_begin(daemon: Daemon) -> None:
    daemon.start()
    code, said, errors = run_command(daemon, "run")
    assert (code, said) == (1, "")
    assert errors.startswith(f"copyd: another daemon uses the state directory {daemon.state}")
    assert errors.count("\n") == 1
    assert daemon.ask("status")["state"] == "ready"


def test_copyd_once_works_beside_the_daemon(daemon: Daemon) -> None:
    daemon.start()
    code, _, errors = run_command(daemon, "once", "books")
    assert (code, errors) == (0, "")


def test_a_killed_daemon_leaves_nothing_in_the_way_and_remembers(daemon: Daemon) -> None:
    daemon.transfers["books"]["every"] = "1d"
    daemon.start()
    daemon.await_event("run.ended")
    before = daemon.transfer("books")["destinations"]["eu"]
    assert wait_for(
        lambda: daemon.ask("history")["runs"][0]["verdict"] == "succeeded", timeout=PATIENCE
    )
    assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
    assert daemon.socket.exists()
    daemon.start()
    found = daemon.transfer("books")
    after = found["destinations"]["eu"]
    assert after["last_success"] == pytest.approx(before["last_success"], abs=1)
    assert after["data_timestamp"] == before["data_timestamp"]
    assert found["state"] == "idle"
    assert found["next_run"] == pytest.approx(found["last_started"] + 86_400, abs=1)
    assert daemon.end() == 0


def test_without_a_history_the_ledgers_say_when_a_destination_was_fed(daemon: Daemon) -> None:
    daemon.start()
    daemon.ask("trigger", transfer="books")
    daemon.await_event("run.ended", verdict="succeeded")
    before = daemon.transfer("books")["destinations"]["eu"]["last_success"]
    assert daemon.end() == 0
    for file in daemon.state.glob("history.sqlite3*"):
        file.unlink()
    daemon.start()
    found = daemon.await_status(
        lambda status: all(
            each["last_success"] is not None for each in status["transfers"][0]["destinations"]
        )
    )
    for destination in found["transfers"][0]["destinations"]:
        assert destination["last_success"] == pytest.approx(before, abs=2)
        assert destination["data_timestamp"] is None, "nobody knows how old the data is"


def test_a_history_that_is_garbage_stops_nothing(daemon: Daemon) -> None:
    daemon.state.mkdir()
    (daemon.state / "history.sqlite3").write_bytes(b"garbage" * 1000)
    daemon.transfers["books"]["every"] = "1d"
    daemon.start()
    daemon.await_event("run.ended", verdict="succeeded")
    assert daemon.end() == 0


# -- folders, systemd, secrets --------------------------------------------------------------------


def test_a_state_directory_that_others_can_write_to_is_refused(daemon: Daemon) -> None:
    daemon.state.mkdir()
    daemon.state.chmod(0o777)
    daemon.write()
    code, said, errors = run_command(daemon, "run")
    assert (code, said) == (78, "")
    assert "daemon.state_directory" in errors
    assert "is writable by other users (mode 777): chmod go-w it" in errors


def test_the_socket_is_for_the_owner_and_the_group(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.socket.stat().st_mode & 0o777 == 0o660


def test_a_socket_path_that_is_too_long_is_refused(daemon: Daemon) -> None:
    deep = daemon.folder / ("x" * 100)
    daemon.options["daemon"] = {"runtime_directory": str(deep)}
    daemon.launch()
    assert daemon.wait() == 1
    assert "configure a shorter runtime_directory" in daemon.said[-1]


def test_systemd_is_told_all_along(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0copyd-test-{os.getpid()}")
        listener.settimeout(PATIENCE)
        env = {"NOTIFY_SOCKET": f"@copyd-test-{os.getpid()}", "WATCHDOG_USEC": "600000"}
        daemon.start(env=env)
        heard: list[str] = []

        def hear_until(fact: str) -> str:
            while not heard or fact not in heard[-1]:
                heard.append(listener.recv(65536).decode())
            return heard[-1]

        hear_until("READY=1")
        hear_until("WATCHDOG=1")
        daemon.reload()
        reloading = hear_until("RELOADING=1")
        assert "MONOTONIC_USEC=" in reloading
        hear_until("READY=1")
        daemon.send(signal.SIGTERM)
        hear_until("STOPPING=1")
    assert daemon.wait() == 0


def test_a_taken_port_is_told_in_one_sentence(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon.options["http"] = {"listen": f"127.0.0.1:{port}"}
        daemon.launch()
        assert daemon.wait() == 1
    assert daemon.said[-1].startswith(f"copyd: http.listen: cannot listen on 127.0.0.1:{port}")


def test_no_secret_and_no_value_of_a_row_is_told_anywhere(daemon: Daemon) -> None:
    """A password in a connection string, and a row that a destination refuses."""
    marker, row = "hunter2-5e1f", "row-value-77aa"
    execute(daemon.servers["shop"], f"INSERT INTO t VALUES (77, '{row}')")
    execute(daemon.servers["eu"], f"ALTER TABLE t ADD CHECK (note <> '{row}')")
    daemon.servers["us"] = f"{NOWHERE} password={marker}"
    daemon.transfers["books"]["every"] = "200ms"
    daemon.options |= {"log": {"level": "debug"}, "http": {"listen": "127.0.0.1:0"}}
    daemon.start()
    daemon.await_event("run.ended", number=2, verdict="failed")
    daemon.config.write_text(daemon.config.read_text().replace("127.0.0.1:0", "nonsense"))
    daemon.send(signal.SIGHUP)
    daemon.await_event("config.refused")
    told = collected(daemon)
    assert marker not in told
    assert row not in told
    assert "failed" in told


def collected(daemon: Daemon) -> str:
    """Everything that the daemon tells: its log, its answers, its files."""
    answers = [json.dumps(daemon.ask(command)) for command in ("status", "history")]
    commands = [str(run_command(daemon, word)) for word in ("status", "history", "reload")]
    files = [
        path.read_bytes().decode(errors="replace")
        for path in daemon.state.rglob("*")
        if path.is_file()
    ]
    return "\n".join([*daemon.said, *answers, *commands, *files])
