"""``copyd once`` as a person runs it, on real servers."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import make_conninfo

from tests.support.program import PROGRAM, environment, run, start
from tests.support.servers import PASSWORD, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.configured_fanout import ConfiguredFanout

KEYED = "CREATE TABLE t (id int PRIMARY KEY, note text)"
FIVE = "INSERT INTO t SELECT i, 'note ' || i FROM generate_series(1, 5) i"
MARKER = "hunter2-5e1f"
REPORT_KEYS = {"transfer", "run", "verdict", "seconds", "destinations"}
DESTINATION_KEYS = {
    "destination", "verdict", "cause", "read", "loaded", "rejected", "rows", "bytes", "seconds",
    "bytes_per_second", "passes", "faults", "reconciliations", "link", "link_reason", "format", "format_reason",
    "analyze_seconds", "notes",
}  # fmt: skip

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def site(configured: ConfiguredFanout) -> ConfiguredFanout:
    configured.create(KEYED, replicas=2, fill=FIVE)
    configured.configure(books="")
    return configured


def once(site: ConfiguredFanout, *arguments: str) -> Done:
    return site.copyd("once", *(arguments or ("books",)))


def said(done: Done) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def test_every_destination_gets_the_rows_and_a_line_in_the_closing_table(
    site: ConfiguredFanout,
) -> None:
    done = once(site)
    assert (done.returncode, done.stderr) == (0, "")
    assert site.is_equal("eu")
    assert site.is_equal("us")
    lines = [line.split() for line in done.stdout.splitlines()]
    (title,) = [number for number, line in enumerate(lines) if line[:1] == ["destination"]]
    assert lines[title] == [
        "destination", "read", "loaded", "rejected", "rows", "bytes", "seconds", "MB/s", "verdict"
    ]  # fmt: skip
    table = {line[0]: (line[1], line[-1]) for line in lines[title + 1 : title + 3]}
    assert table == {"eu": ("5", "succeeded"), "us": ("5", "succeeded")}


def test_off_a_terminal_there_is_neither_colour_nor_cursor_movement(site: ConfiguredFanout) -> None:
    assert "\x1b" not in said(once(site))


def on_a_terminal(site: ConfiguredFanout, **env: str) -> tuple[str, int]:
    """Run it with its output on a terminal; returns what the terminal got, and the exit code."""
    master, slave = pty.openpty()
    command = [*PROGRAM, "once", "books", "--config", str(site.file)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env=environment(TERM="xterm-256color", **env),
    ) as program:
        os.close(slave)
        shown = b""
        try:
            while more := os.read(master, 65536):
                shown += more
        except OSError:  # Linux says so that nobody writes any more
            pass
        finally:
            os.close(master)
    return shown.decode(), program.returncode


def test_on_a_terminal_there_are_bars_and_colours(site: ConfiguredFanout) -> None:
    shown, code = on_a_terminal(site)
    assert code == 0
    assert "\x1b[32msucceeded" in shown
    assert "\x1b[?25l" in shown  # bars hide the cursor
    shown, code = on_a_terminal(site, NO_COLOR="1")
    assert code == 0
    assert "\x1b[32m" not in shown


def test_json_is_the_whole_of_the_output(site: ConfiguredFanout) -> None:
    report = site.report()
    assert set(report) == REPORT_KEYS
    assert (report["transfer"], report["verdict"]) == ("books", "succeeded")
    assert [each["destination"] for each in report["destinations"]] == ["eu", "us"]
    for each in report["destinations"]:
        assert set(each) == DESTINATION_KEYS
        assert (each["verdict"], each["rows"], each["passes"], each["faults"]) == (
            "succeeded", 5, 1, 0,
        )  # fmt: skip
        assert (each["cause"], each["notes"]) == (None, [])
        assert each["bytes"] > 0
        assert each["seconds"] > 0
        assert each["analyze_seconds"] > 0
        assert each["link_reason"]
        assert each["format_reason"]


def test_several_transfers_are_carried_out_in_the_order_given(site: ConfiguredFanout) -> None:
    site.everywhere("CREATE TABLE u (id int PRIMARY KEY)")
    site.do("source", "INSERT INTO u VALUES (1), (2)")
    site.configure(books="", films='tables = ["public.u"]\nmode = "merge"')
    done = once(site, "films", "books")
    assert done.returncode == 0, said(done)
    rows = [line.split()[1] for line in done.stdout.splitlines() if line.endswith("succeeded")]
    assert [row for row in rows if row in ("2", "5")] == ["2", "2", "5", "5"]
    done = once(site, "films", "books", "--json")
    assert done.returncode == 0
    assert [each["transfer"] for each in json.loads(done.stdout)] == ["films", "books"]


def test_of_several_transfers_each_table_says_whose_it_is(site: ConfiguredFanout) -> None:
    done = once(site, "books", "books")
    titles = [
        line for line in done.stdout.splitlines() if line.startswith(("transfer ", "destination "))
    ]
    assert [title.split()[:2] for title in titles] == [
        ["transfer", "books"], ["destination", "read"],
    ] * 2  # fmt: skip
    assert "transfer books" not in once(site).stdout


def test_full_loads_every_row_anew(site: ConfiguredFanout) -> None:
    site.configure(books='mode = "append"')
    assert once(site).returncode == 0
    site.do("eu", "UPDATE t SET note = 'by hand'")
    assert once(site).returncode == 0
    assert not site.is_equal("eu")
    report = site.report("books", "--full")
    assert [each["rows"] for each in report["destinations"]] == [5, 5]
    assert site.is_equal("eu")


def test_only_the_destinations_that_are_named_are_fed(site: ConfiguredFanout) -> None:
    site.configure(books="minimum_destinations = 2")
    report = site.report("books", "--destination", "us")
    assert [each["destination"] for each in report["destinations"]] == ["us"]
    assert report["verdict"] == "succeeded"
    assert (site.is_equal("eu"), site.is_equal("us")) == (False, True)
    report = site.report("books", "--destination", "us", "--destination", "eu")
    assert [each["destination"] for each in report["destinations"]] == ["eu", "us"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'TRANSFER...'"),
        (["boks"], 'there is no transfer boks in the configuration; did you mean "books"?'),
        (["books", "--destination", "ap"], "transfer books has no destination ap: it has eu, us"),
        (["books", "--fulll"], "No such option"),
        (["books", "films"], "there is no transfer films"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_touches_nothing(
    site: ConfiguredFanout, arguments: list[str], words: str
) -> None:
    done = run("once", *arguments, "--config", str(site.file))
    assert done.returncode == 2
    assert words in said(done)
    assert done.stdout == ""
    assert site.ask("eu", "SELECT FROM pg_namespace WHERE nspname = 'copyd'") == []


def test_bad_configuration_is_exit_code_78_with_every_error(site: ConfiguredFanout) -> None:
    site.configure(books='mode = "mrege"\noverlap = "soon"')
    done = once(site)
    assert (done.returncode, done.stdout) == (78, "")
    assert "transfers.books.mode" in done.stderr
    assert "transfers.books.overlap" in done.stderr


def test_a_file_that_is_not_there_is_bad_configuration(tmp_path: Path) -> None:
    done = run("once", "books", "--config", str(tmp_path / "none.toml"))
    assert done.returncode == 78
    assert "none.toml" in said(done)


def test_some_of_the_destinations_are_exit_code_3(site: ConfiguredFanout) -> None:
    site.do("us", "DROP TABLE t")
    done = once(site)
    assert done.returncode == 3
    assert "there is no table public.t" in said(done)
    assert site.is_equal("eu")
    report = site.report()
    assert report["verdict"] == "partial"
    assert [each["verdict"] for each in report["destinations"]] == ["succeeded", "failed"]
    assert report["destinations"][1]["rows"] == 0


def test_none_of_the_destinations_is_exit_code_1(site: ConfiguredFanout) -> None:
    for place in ("eu", "us"):
        site.do(place, "INSERT INTO t VALUES (9, 'of old')")
    done = once(site)
    assert done.returncode == 1
    assert said(done).count("adopt = true") >= 2


def test_too_few_of_the_destinations_are_exit_code_1(site: ConfiguredFanout) -> None:
    site.configure(books="minimum_destinations = 2")
    site.do("us", "DROP TABLE t")
    assert once(site).returncode == 1
    assert site.is_equal("eu")


def test_transfers_that_did_not_all_end_alike_are_exit_code_3(site: ConfiguredFanout) -> None:
    site.do("source", "CREATE TABLE u (id int)")
    site.configure(books="", films='tables = ["public.u"]')
    done = once(site, "films", "books")
    assert done.returncode == 3, said(done)
    assert site.is_equal("eu")


def test_a_source_that_cannot_be_read_fails_in_a_sentence(site: ConfiguredFanout) -> None:
    site.do("source", "DROP TABLE t")
    done = once(site)
    assert done.returncode == 1
    assert "copyd: source source: there is no table public.t" in done.stderr
    report = run("once", "books", "--config", str(site.file), "--json")
    assert report.returncode == 1
    found = json.loads(report.stdout)
    assert (found["verdict"], found["destinations"]) == ("failed", [])
    assert "there is no table public.t" in found["cause"]


def test_a_source_that_cannot_be_read_does_not_keep_later_transfers_from_their_turn(
    site: ConfiguredFanout,
) -> None:
    site.configure(films='tables = ["public.u"]', books="")
    done = once(site, "films", "books")
    assert done.returncode == 3, said(done)
    assert "copyd: transfer films: source source: there is no table public.u" in done.stderr
    assert site.is_equal("eu")
    done = once(site, "films", "books", "--json")
    assert done.returncode == 3
    failed, succeeded = json.loads(done.stdout)
    assert (failed["transfer"], failed["run"], failed["verdict"]) == ("films", None, "failed")
    assert "there is no table public.u" in failed["cause"]
    assert failed["seconds"] > 0
    assert (succeeded["transfer"], succeeded["verdict"]) == ("books", "succeeded")
    assert once(site, "films", "films").returncode == 1


def test_a_destination_without_an_address_or_a_password_does_not_keep_the_others_out(
    site: ConfiguredFanout, tmp_path: Path
) -> None:
    site.configure(books='destinations = ["eu", "stopped", "locked"]')
    with site.file.open("a") as file:
        file.write(
            f'[clusters.own]\ndata_directory = "{tmp_path / "none"}"\n'
            '[servers.stopped]\ncluster = "own"\ndbname = "x"\n'
            '[servers.locked]\nconninfo = "host=127.0.0.1 port=1"\npassword_file = "none.pw"\n'
        )
    done = once(site, "books", "--json")
    assert done.returncode == 3, said(done)
    eu, stopped, locked = json.loads(done.stdout)["destinations"]
    assert eu["verdict"] == "succeeded"
    assert f"no server listens in {tmp_path / 'none'}: start it" in stopped["cause"]
    assert "servers.locked.password_file: expected a file" in locked["cause"]
    assert site.is_equal("eu")
    done = once(site, "books", "--destination", "eu")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_source_whose_password_file_cannot_be_used_is_bad_configuration(
    site: ConfiguredFanout,
) -> None:
    site.file.write_text(
        site.file.read_text().replace(
            "[servers.source]", '[servers.source]\npassword_file = "none.pw"', 1
        )
    )
    done = once(site)
    assert done.returncode == 78
    assert "servers.source.password_file" in said(done)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_run_without_a_standard_output_is_carried_out(
    site: ConfiguredFanout, more: list[str]
) -> None:
    words = ["once", "books", "--config", str(site.file), *more]
    done = run(*words, prefix=("/bin/sh", "-c", 'exec "$@" >&-', "sh"))
    assert (done.returncode, done.stderr) == (0, "")
    assert site.is_equal("eu")


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=["SIGINT", "SIGTERM"],
)
def test_who_interrupts_it_gets_a_sentence_and_no_json(
    site: ConfiguredFanout, number: signal.Signals, code: int, word: str
) -> None:
    site.everywhere("CREATE TABLE u (id int PRIMARY KEY)")
    sleeps = 'before = ["SELECT pg_sleep(60) /* ours */"]'
    site.configure(films='tables = ["public.u"]', books=sleeps)
    busy = "SELECT FROM pg_stat_activity WHERE query LIKE '%ours */' AND wait_event = 'PgSleep'"
    words = ("once", "films", "books", "--config", str(site.file), "--json")
    with start(*words) as program:
        deadline = time.monotonic() + 30
        while not site.ask("source", busy):
            assert time.monotonic() < deadline
            assert program.poll() is None
        program.send_signal(number)
        out, err = program.communicate(timeout=60)
    assert program.returncode == code
    assert (out, err.strip()) == ("", f"copyd: {word}")


SECRET = "s3cr3t-and-wrong"


@pytest.mark.parametrize(
    ("where", "wrong", "more"),
    [
        ("source", {"password": SECRET}, []),
        ("source", {"dbname": "nowhere"}, ["--json"]),
        ("eu", {"password": SECRET}, ["--json"]),
        ("eu", {"port": "nobody's"}, []),
    ],
)
def test_no_password_is_ever_told(
    site: ConfiguredFanout, where: str, wrong: dict[str, str], more: list[str]
) -> None:
    changed = {key: str(free_port()) if key == "port" else wrong[key] for key in wrong}
    site.conninfos[where] = make_conninfo(site.conninfos[where], **changed)
    site.configure(books="")
    done = once(site, "books", *more)
    assert done.returncode == (1 if where == "source" else 3)
    assert SECRET not in said(done)
    assert PASSWORD not in said(done)
    assert f"cannot connect to {where}" in said(done)


def test_a_password_file_is_read_and_not_told(site: ConfiguredFanout, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o600)
    site.conninfos["eu"] = make_conninfo(site.conninfos["eu"], password=SECRET)
    site.configure(books='destinations = ["eu"]')
    assert once(site).returncode == 1
    text = site.file.read_text()
    eu = text.index("[servers.eu]") + len("[servers.eu]")
    site.file.write_text(f"{text[:eu]}\npassword_file = {json.dumps(str(file))}{text[eu:]}")
    done = once(site)
    assert done.returncode == 0, said(done)
    assert PASSWORD not in said(done)


BAD_ROWS = {
    "check": "ALTER TABLE t ADD CHECK (length(note) < 8)",
    "cast": "ALTER TABLE t ALTER note TYPE uuid USING NULL",
    "raise": (
        "CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''no % %, please'', NEW.id, NEW.note; END';"
        "CREATE TRIGGER say BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION say()"
    ),
    "foreign key": (
        "CREATE TABLE p (note text PRIMARY KEY); ALTER TABLE t ADD FOREIGN KEY (note) REFERENCES p"
    ),
}


@pytest.mark.parametrize(
    ("what", "more"),
    [("check", []), ("cast", ["--json"]), ("raise", []), ("foreign key", ["--json"])],
)
def test_a_row_that_is_refused_is_not_quoted_off_a_terminal(
    site: ConfiguredFanout, what: str, more: list[str]
) -> None:
    site.do("eu", BAD_ROWS[what])
    site.do("source", f"UPDATE t SET note = '{MARKER}'")
    done = once(site, "books", *more)
    assert done.returncode == 3, said(done)
    assert MARKER not in said(done)
    assert site.is_equal("us")


def test_a_row_that_the_source_cannot_read_is_not_quoted_off_a_terminal(
    site: ConfiguredFanout,
) -> None:
    site.do("source", f"UPDATE t SET note = '{MARKER}'")
    query = 'query = "SELECT id, (note::int)::text AS note FROM t"\ninto = "public.t"'
    site.configure(books=query)
    done = once(site)
    assert done.returncode == 1, said(done)
    assert "22P02" in said(done)
    assert MARKER not in said(done)


def test_what_the_destinations_say_is_kept_apart(site: ConfiguredFanout) -> None:
    """Options of one destination: another table, another mode, statements of its own."""
    site.do("us", "ALTER TABLE t RENAME TO books", "CREATE TABLE calls (what text)")
    site.configure(
        books='after = ["SELECT 1"]\n'
        "[transfers.books.destination.us]\n"
        'mode = "merge"\ntables.\'public.t\' = "public.books"\n'
        "after_commit = [\"INSERT INTO calls VALUES ('done')\"]\n"
    )
    for _ in range(2):
        done = once(site)
        assert done.returncode == 0, said(done)
    assert site.is_equal("eu")
    assert site.ask("us", "SELECT id FROM books ORDER BY id") == site.ask(
        "source", "SELECT id FROM t"
    )
    assert site.ask("us", "SELECT what FROM calls") == [("done",)] * 2


def test_rows_that_are_refused_are_rejected_counted_and_shown(
    site: ConfiguredFanout, tmp_path: Path
) -> None:
    site.configure(
        books=f'on_error = "resume_next"\nmax_reject_ratio = 0.5\nreject_directory = "{tmp_path}/bad"'
    )
    site.do("eu", "ALTER TABLE t ADD CONSTRAINT no_three CHECK (id <> 3)")
    done = once(site, "books", "--json")
    assert done.returncode == 3, said(done)
    counts = ("read", "loaded", "rejected", "rows")
    fared = [[each[key] for key in counts] for each in json.loads(done.stdout)["destinations"]]
    assert fared == [[5, 4, 1, 4], [5, 5, 0, 5]]
    assert once(site, "books", "--allow-rejects").returncode == 0
    shown = run("rejects", "show", "books", "--json", "--config", str(site.file))
    found = json.loads(shown.stdout)
    assert [(each["destination"], each["sqlstate"], each["constraint"]) for each in found] == [
        ("eu", "23514", "no_three")
    ] * 2
    assert site.is_equal("us")


def test_a_folder_for_rejects_that_others_can_write_is_refused(
    site: ConfiguredFanout, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    folder.chmod(0o777)
    site.configure(books=f'on_error = "resume_next"\nreject_directory = "{folder}"')
    done = once(site)
    assert done.returncode == 78
    assert "chmod go-w" in said(done)
    assert len(done.stderr.splitlines()) == 1
