"""Single keys: what is taken, and the line that refuses anything else."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copyd.config import Config
from copyd.names import Pattern, TableName

if TYPE_CHECKING:
    from tests.unit.config.conftest import Loaded, Refused

SERVERS = '[servers.a]\nconninfo = "host=a"\n[servers.b]\nconninfo = "host=b"\n'
TRANSFER = f'{SERVERS}[transfers.t]\nsource = "a"\ndestinations = ["b"]\ntables = ["s.*"]\n'
MERGE = f'{TRANSFER}mode = "merge"\n'
DURATION = 'a duration such as "500ms", "30s", "5m", "24h" or "7d"'
SIZE = 'a size such as "512kB", "20MB" or "1GB"'
BELOW = 'a folder below the state directory, without ".."'
ON_ERROR = 'on_error: expected "stop" or "resume_next", got "resume"; did you mean "resume_next"?'
WAITS = ["deadline", "prepare_timeout", "stall_timeout", "answer_timeout", "lock_timeout"]
PATTERN = "a table or pattern such as sales.orders or sales.*"
LABEL = (
    'a name of up to 63 letters, digits, "_", "-" and ".", beginning with a letter, a digit or "_"'
)


def test_every_default_is_the_documented_one(loaded: Loaded) -> None:
    transfer = loaded(TRANSFER).transfers["t"]
    assert (transfer.mode, transfer.replace_with, transfer.overlap) == ("replace", "delete", "all")
    assert (transfer.full_every, transfer.delete_missing, transfer.max_shrink) == (
        86_400,
        False,
        0.9,
    )
    assert (transfer.deadline, transfer.prepare_timeout, transfer.stall_timeout) == (1_800, 10, 5)
    assert (transfer.answer_timeout, transfer.max_wait, transfer.lock_timeout) == (900, 60, 1)
    assert dict(transfer.reintroduce) == {"attempts": 5, "backoff": 1, "max_backoff": 30}
    assert (transfer.minimum_destinations, transfer.triggers) == (1, "fire")
    assert (transfer.before, transfer.after, transfer.after_commit) == ((), (), ())
    assert (transfer.analyze, transfer.format, transfer.ledger_schema) == (True, "auto", "copyd")
    assert (transfer.every, transfer.cron, transfer.key, transfer.cursor) == (None,) * 4
    assert (transfer.on_error, transfer.batch_rows, transfer.batch_size) == (
        "stop",
        250_000,
        20 * 1024 * 1024,
    )
    assert (transfer.max_rejects, transfer.max_reject_ratio) == (1_000, 0.01)
    assert (transfer.reject_directory, transfer.keep_rejects) == (Path("rejects"), 30 * 86_400)


@pytest.mark.parametrize(
    ("written", "folder"),
    [
        ("bad", "/var/lib/copyd/bad"),
        ("a/b", "/var/lib/copyd/a/b"),
        ("/srv/rejects", "/srv/rejects"),
    ],
)
def test_files_of_rejects_go_below_the_state_directory(
    loaded: Loaded, written: str, folder: str
) -> None:
    config = loaded(f'{TRANSFER}reject_directory = "{written}"\n')
    assert config.reject_directory_of("t") == Path(folder)


def test_names_are_read_as_sql(loaded: Loaded) -> None:
    transfer = loaded(
        MERGE + 'key = ["Id", \'"Id"\']\ncursor = "Updated_At"\nledger_schema = "Ledger"\n'
        '[transfers.t.table.\'S."T"\']\nwhere = "x"\n'
        "[transfers.t.destination.b]\ntables = { 's.x' = 'S.\"X\"' }\n"
    ).transfers["t"]
    assert transfer.tables == (Pattern.parse("s.*"),)
    assert (transfer.key, transfer.cursor) == (("id", "Id"), "updated_at")
    assert transfer.ledger_schema == "ledger"
    assert list(transfer.table) == ['S."T"']
    assert transfer.at("b").tables == {"s.x": TableName("s", "X")}


@pytest.mark.parametrize(
    ("written", "overlap"),
    [
        ('"all"', "all"),
        ('"1h"', timedelta(hours=1)),
        ('"0s"', timedelta(0)),
        ("100000", 100_000),
        ("0", 0),
    ],
)
def test_an_overlap_is_all_a_duration_or_a_number(
    loaded: Loaded, written: str, overlap: object
) -> None:
    text = f'{MERGE}cursor = "c"\noverlap = {written}\n'
    assert loaded(text).transfers["t"].overlap == overlap


@pytest.mark.parametrize("key", ["max_wait"])
def test_patience_may_be_none_at_all(loaded: Loaded, key: str) -> None:
    assert getattr(loaded(f'{TRANSFER}{key} = "0s"\n').transfers["t"], key) == 0


def test_a_whole_number_is_a_share_too(loaded: Loaded) -> None:
    assert loaded(f"{TRANSFER}max_shrink = 1\n").transfers["t"].max_shrink == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('every = "soon"', f'every: expected {DURATION}, got "soon"'),
        ("every = 5", f"every: expected {DURATION}, got 5"),
        ('every = "0s"', 'every: expected a duration above zero, got "0s"'),
        ('every = "367d"', 'every: expected at most 366d, got "367d"'),
        *((f'{key} = "8d"', f'{key}: expected at most 7d, got "8d"') for key in WAITS),
        *((f'{key} = "0m"', f'{key}: expected a duration above zero, got "0m"') for key in WAITS),
        ('max_wait = "8d"', 'max_wait: expected at most 7d, got "8d"'),
        (
            'cron = "* * * *"',
            (
                'cron: expected a cron expression such as "*/5 * * * *", got "* * * *": '
                "Wrong number of fields"
            ),
        ),
        ("cron = 5", 'cron: expected a cron expression such as "*/5 * * * *", got 5'),
        ('analyze = "yes"', 'analyze: expected true or false, got "yes"'),
        ("analyze = 1", "analyze: expected true or false, got 1"),
        ("max_reject_ratio = 1.1", "max_reject_ratio: expected at most 1, got 1.1"),
        ("max_rejects = -1", "max_rejects: expected at least 0, got -1"),
        ("batch_rows = 0", "batch_rows: expected at least 1, got 0"),
        ("batch_size = 20", f"batch_size: expected {SIZE}, got 20"),
        ('batch_size = "20mb"', f'batch_size: expected {SIZE}, got "20mb"'),
        ('batch_size = "0kB"', 'batch_size: expected a size above zero, got "0kB"'),
        ('on_error = "resume"', ON_ERROR),
        ("reject_directory = 1", "reject_directory: expected a path, got a number"),
        ('reject_directory = "a/../b"', f'reject_directory: expected {BELOW}, got "a/../b"'),
        ('reject_directory = "."', f'reject_directory: expected {BELOW}, got "."'),
        ("max_shrink = 1.1", "max_shrink: expected at most 1, got 1.1"),
        ("max_shrink = -0.1", "max_shrink: expected at least 0.0, got -0.1"),
        ("max_shrink = nan", "max_shrink: expected a finite number, got nan"),
        ('max_shrink = "0.9"', 'max_shrink: expected a number, got "0.9"'),
        ("minimum_destinations = 0", "minimum_destinations: expected at least 1, got 0"),
        ("minimum_destinations = 1.0", "minimum_destinations: expected a whole number, got 1.0"),
        ("minimum_destinations = true", "minimum_destinations: expected a whole number, got true"),
        ("reintroduce = 5", "reintroduce: expected a table, got 5"),
        ("reintroduce.attempts = -1", "reintroduce.attempts: expected at least 0, got -1"),
        ("reintroduce.atempts = 1", 'reintroduce.atempts: unknown key; did you mean "attempts"?'),
        (
            'triggers = "skipp"',
            'triggers: expected "fire" or "skip", got "skipp"; did you mean "skip"?',
        ),
        ("triggers = 5", 'triggers: expected "fire" or "skip", got 5'),
        ('format = "csv"', 'format: expected "auto", "text" or "binary", got "csv"'),
        ('before = "SELECT 1"', 'before: expected a list, got "SELECT 1"'),
        ("before = [5]", "before[0]: expected a string, got 5"),
        ('after = ["x", " "]', "after[1]: expected a text, got a blank one"),
        ('after = ["\\u0000"]', "after[0]: expected a text without NUL characters"),
        (
            'ledger_schema = "a.b"',
            (
                "ledger_schema: expected a name such as id or \"Id\", got 'a.b': "
                "a dot needs double quotes here"
            ),
        ),
        ("ledger_schema = 5", 'ledger_schema: expected a name such as id or "Id", got 5'),
        (
            "stal_timeout = '5s'",
            'stal_timeout: unknown key; did you mean "stall_timeout"?',
        ),
        (
            "adopt = true",
            "adopt: unknown key here; it belongs in [transfers.NAME.destination.NAME]",
        ),
        ("conninfo = 'x'", "conninfo: unknown key here; it belongs in [servers.NAME]"),
        ("daemon = 5", "daemon: unknown key here; it belongs at the top"),
        ("frobnicate = 5", "frobnicate: unknown key"),
        ("table.'s.x' = 5", "table.'s.x': expected a table, got 5"),
        (
            "table.x = {}",
            (
                "table.x: expected a table such as sales.orders or sales.\"Order\", got 'x': "
                "write it as SCHEMA.TABLE"
            ),
        ),
        (
            "table.'s.x'.columns = []",
            "table.'s.x'.columns: expected at least one, got an empty list",
        ),
        (
            "table.'s.x'.where = ''",
            "table.'s.x'.where: expected a text, got a blank one",
        ),
        ("destination.b.adopt = 1", "destination.b.adopt: expected true or false, got 1"),
        (
            "destination.b.tables.'s.x' = 'y'",
            (
                "destination.b.tables.'s.x': expected a table such as sales.orders or sales.\"Order\", "
                "got 'y': write it as SCHEMA.TABLE"
            ),
        ),
        ("destination.b.tables = 5", "destination.b.tables: expected a table, got 5"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(
    refused: Refused, line: str, problem: str
) -> None:
    assert refused(f"{TRANSFER}{line}\n") == [f"transfers.t.{problem}"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("overlap = -1", '"all", a duration such as "1h", or a whole number, got -1'),
        ("overlap = true", '"all", a duration such as "1h", or a whole number, got true'),
        ('overlap = "some"', '"all", a duration such as "1h", or a whole number, got "some"'),
        ("overlap = 1.5", '"all", a duration such as "1h", or a whole number, got 1.5'),
    ],
)
def test_a_wrong_overlap_is_refused(refused: Refused, line: str, problem: str) -> None:
    text = f'{MERGE}cursor = "c"\n{line}\n'
    assert refused(text) == [f"transfers.t.overlap: expected {problem}"]


@pytest.mark.parametrize(
    ("what", "problems"),
    [
        (
            'tables = ["orders"]',
            [f"tables[0]: expected {PATTERN}, got 'orders': write it as SCHEMA.TABLE"],
        ),
        (
            'tables = ["s.a", "b", "s.\\"x", 5]',
            [
                f"tables[1]: expected {PATTERN}, got 'b': write it as SCHEMA.TABLE",
                f"tables[2]: expected {PATTERN}, got 's.\"x': a double quote is not closed",
                "tables[3]: expected a table or pattern such as sales.*, got 5",
            ],
        ),
        ("tables = []", ["tables: expected at least one, got an empty list"]),
        ('tables = "s.x"', ['tables: expected a list, got "s.x"']),
        (
            'query = " "\ninto = "s.t"',
            ["query: expected a text, got a blank one"],
        ),
        (
            'query = "SELECT 1"\ninto = "s.*"',
            [
                (
                    "into: expected a table such as sales.orders or sales.\"Order\", got 's.*': "
                    "* and ? need double quotes here"
                ),
            ],
        ),
        ('query = "SELECT 1"\ninto = 5', ["into: expected a table written as SCHEMA.TABLE, got 5"]),
    ],
)
def test_what_cannot_be_copied_is_refused(refused: Refused, what: str, problems: list[str]) -> None:
    text = TRANSFER.replace('tables = ["s.*"]', what)
    assert refused(text) == [f"transfers.t.{problem}" for problem in problems]


def test_what_has_no_default_has_to_be_there(refused: Refused) -> None:
    assert refused("[transfers.t]\ntables = ['s.t']\n[clusters.c]\n") == [
        "clusters.c.data_directory: expected a value; this key has no default",
        "transfers.t.destinations: expected a value; this key has no default",
        "transfers.t.source: expected a value; this key has no default",
    ]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "[clusters.c]\ndata_directory = 5",
            ["clusters.c.data_directory: expected a path, got a number"],
        ),
        (
            "[clusters.c]\ndata_directory = ''",
            ["clusters.c.data_directory: expected a text, got a blank one"],
        ),
        (
            "[clusters.c]\ndata_directory = 'c'\nversion = 12",
            ["clusters.c.version: expected at least 13, got 12"],
        ),
        (
            "[clusters.c]\ndata_directory = 'c'\nversion = '15'",
            ['clusters.c.version: expected a whole number, got "15"'],
        ),
        (
            "[daemon]\nstate_directory = true",
            ["daemon.state_directory: expected a path, got true or false"],
        ),
        ("servers = 5", ["servers: expected a table, got a number"]),
        ("transfers = []", ["transfers: expected a table, got a list"]),
        ("transfers.x = 5", ["transfers.x: expected a table, got 5"]),
        ("servrs = 5", ['servrs: unknown key; did you mean "servers"?']),
        ("[clusters.'-c']\ndata_directory = 'c'", [f'clusters.-c: expected {LABEL}, got "-c"']),
        (
            "[clusters.'a/b']\ndata_directory = 'c'",
            [f"clusters.'a/b': expected {LABEL}, got \"a/b\""],
        ),
        ("[clusters.'é']\ndata_directory = 'c'", [f"clusters.'é': expected {LABEL}, got \"é\""]),
        (
            f"[clusters.{'c' * 64}]\ndata_directory = 'c'",
            [f'clusters.{"c" * 64}: expected {LABEL}, got "{"c" * 64}"'],
        ),
        (
            "[clusters.'']\ndata_directory = ''",
            [
                f"clusters.'': expected {LABEL}, got \"\"",
                "clusters.''.data_directory: expected a text, got a blank one",
            ],
        ),
    ],
)
def test_other_sections_are_refused_in_the_same_way(
    refused: Refused, text: str, problems: list[str]
) -> None:
    assert refused(text) == problems


MISREAD = (
    'the connection string cannot be read; write it as "host=... dbname=..." or as '
    "postgresql://user@host:port/dbname, with special characters percent-encoded"
)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a.conninfo = 'host=a pasword=hush'", [f"servers.a.conninfo: {MISREAD}"]),
        ("a.conninfo = 'postgresql://anna:hu@sh@db1/shop'", [f"servers.a.conninfo: {MISREAD}"]),
        ("a.conninfo = 'hush'", [f"servers.a.conninfo: {MISREAD}"]),
        ('a.conninfo = "host=a password=hush\\u0000"', [f"servers.a.conninfo: {MISREAD}"]),
        ("a.conninfo = ['hush']", ["servers.a.conninfo: expected a string, got a list"]),
        ("a.conninfo = 4242", ["servers.a.conninfo: expected a string, got a number"]),
        ("a = 'hush'", ["servers.a: expected a table, got a string"]),
        ("conninfo = 'hush'", ["servers.conninfo: expected a table, got a string"]),
        (
            "a = { conninfo = 'host=a', password = 'hush' }",
            ['servers.a.password: unknown key; did you mean "password_file"?'],
        ),
        (
            "a = { conninfo = 'host=a', password_file = 4242 }",
            ["servers.a.password_file: expected a path, got a number"],
        ),
        (
            "'host=a password=hush' = { conninfo = 'host=a' }",
            [f"servers.'...': expected {LABEL}, got a string"],
        ),
    ],
)
def test_no_secret_gets_into_a_sentence(refused: Refused, text: str, problems: list[str]) -> None:
    said = refused(f"[servers]\n{text}\n")
    assert said == problems
    assert "hush" not in str(said)
    assert "4242" not in str(said)


def test_a_connection_string_where_a_name_belongs_is_not_repeated(refused: Refused) -> None:
    text = TRANSFER.replace('"a"\nd', '"host=a password=hush"\nd')
    assert refused(text.replace('"s.*"', '"password=hush"')) == [
        "transfers.t.source: expected the name of a server, got a string",
        "transfers.t.tables[0]: expected a table or pattern such as sales.*, got a string",
    ]


def test_a_configuration_prints_no_connection_string(loaded: Loaded) -> None:
    config = loaded("[servers.a]\nconninfo = 'host=a password=hush'\n")
    assert "hush" not in f"{config!r}{config}{config.model_dump_json()}"


def test_a_configuration_cannot_be_changed(loaded: Loaded) -> None:
    config = loaded(TRANSFER)
    with pytest.raises(ValueError, match="frozen"):
        config.transfers["t"].mode = "merge"


@settings(deadline=None)  # the first connection string imports psycopg
@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", fullmatch=True))
def test_a_plain_name_is_a_name(name: str) -> None:
    raw = {"servers": {name: {"conninfo": ""}}}
    assert list(Config.model_validate(raw).servers) == [name]
