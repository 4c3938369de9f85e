"""How keys go together, and that one error hides no other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copyd.config.validation import read, sections

if TYPE_CHECKING:
    from tests.unit.config.conftest import Loaded, Refused

SERVERS = """
[servers.a]
conninfo = "host=a"
[servers.b]
conninfo = "host=b"
[servers.c]
conninfo = "host=c"
[servers.twin]
conninfo = "postgresql://b"
[servers.elsewhere]
conninfo = "host=b dbname=x"
[clusters.k]
data_directory = "k"
"""
ENDS = f'{SERVERS}[transfers.t]\nsource = "a"\ndestinations = ["b", "c"]\n'
TABLES = f'{ENDS}tables = ["s.x", "s.y", "w.*"]\n'
QUERY = f'{ENDS}query = "SELECT 1 AS n"\ninto = "s.q"\n'
MERGE = 'mode = "merge"\n'
APPEND = 'mode = "append"\n'
RESUME = 'on_error = "resume_next"\n'
ONLY_DELETE = (
    'expected "delete" with on_error "resume_next", as after TRUNCATE the rows are loaded frozen, '
    'all or none, got "truncate"'
)
ONLY_REPLACE = 'valid only with mode "replace", not with'
ONLY_INCREMENTAL = 'valid only with mode "append" or "merge", not with "replace"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        'every = "5m"\n',
        'cron = "0 3 * * *"\n',
        'cron = "0 3 * * *"\ntimezone = "Europe/Berlin"\njitter = "2h"\ncatch_up = "skip"\n',
        'every = "5m"\njitter = "5m"\n',
        'breaker = { failures = 1, backoff = "1s", max_backoff = "1s" }\n',
        'replace_with = "truncate"\n',
        f'{MERGE}key = ["id"]\ncursor = "u"\noverlap = "1h"\ndelete_missing = true\n',
        f'{APPEND}key = ["id"]\ncursor = "u"\noverlap = 5\n',
        f"{MERGE}minimum_destinations = 2\n",
        # A destination may have a mode of its own, and then what only that mode uses.
        'cursor = "u"\nkey = ["id"]\n[transfers.t.destination.b]\nmode = "append"\n',
        'delete_missing = true\n[transfers.t.destination.b]\nmode = "merge"\n',
        f'{MERGE}replace_with = "truncate"\n[transfers.t.destination.b]\nmode = "replace"\n',
        f'{MERGE}[transfers.t.destination.b]\nmode = "replace"\nreplace_with = "truncate"\n',
        f'{MERGE}[transfers.t.table.\'W.Any\']\nkey = ["id"]\ncolumns = ["id", "v"]\n',
        "[transfers.t.destination.b]\ntables = { 's.x' = 's.y', 's.y' = 's.x' }\n",
        "[transfers.t.destination.b]\ntables = { 'w.a' = 'w.b' }\n",
        'reintroduce = { attempts = 0, backoff = "0s", max_backoff = "0s" }\n',
        f'{RESUME}batch_rows = 1\nbatch_size = "1kB"\nmax_rejects = 0\nmax_reject_ratio = 1\n',
        f'{RESUME}format = "text"\n',
        # Old rejects are still there when rows are not rejected any more.
        'reject_directory = "r"\nkeep_rejects = "1d"\n',
        # What is truncated nowhere may say so.
        f'{RESUME}{MERGE}[transfers.t.destination.b]\nmode = "replace"\n',
        (
            f'{RESUME}replace_with = "truncate"\n[transfers.t.destination.b]\nreplace_with = "delete"\n'
            '[transfers.t.destination.c]\nmode = "merge"\n'
        ),
    ],
)
def test_what_goes_together_is_taken(loaded: Loaded, text: str) -> None:
    assert loaded(TABLES + text).transfers["t"].source == "a"


@pytest.mark.parametrize(
    "text",
    ["", f'{MERGE}key = ["n"]\n', "[transfers.t.destination.b]\ntables = { 's.q' = 's.r' }\n"],
)
def test_a_query_is_taken_with_the_modes_that_it_can_have(loaded: Loaded, text: str) -> None:
    assert loaded(QUERY + text).transfers["t"].query == "SELECT 1 AS n"


@pytest.mark.parametrize(
    "text",
    [
        f'{MERGE}overlap = "1h"\ntables = ["s.x"]\n[transfers.t.table.\'s.x\']\ncursor = "u"\n',
        'mode = "replace"\ntables = ["s.x"]\n',
    ],
)
def test_a_bound_is_taken_where_every_table_has_a_cursor(loaded: Loaded, text: str) -> None:
    assert loaded(ENDS + text).transfers["t"].cursor is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('every = "5m"\ncron = "0 3 * * *"\n', "cron: expected either every or cron, got both"),
        (
            "minimum_destinations = 3\n",
            "minimum_destinations: expected at most the number of destinations (2), got 3",
        ),
        (
            'reintroduce = { backoff = "31s" }\n',
            "reintroduce.max_backoff: expected at least backoff (31s), got 30s",
        ),
        (f'{MERGE}replace_with = "delete"\n', f'replace_with: {ONLY_REPLACE} "merge"'),
        ('cursor = "u"\n', f"cursor: {ONLY_INCREMENTAL}"),
        ('key = ["id"]\n', f"key: {ONLY_INCREMENTAL}"),
        ('overlap = "1h"\n', f"overlap: {ONLY_INCREMENTAL}"),
        (
            f"{APPEND}delete_missing = true\n",
            'delete_missing: valid only with mode "merge", not with "append"',
        ),
        ("[transfers.t.table.'s.x']\ncursor = 'u'\n", f"table.'s.x'.cursor: {ONLY_INCREMENTAL}"),
        ("[transfers.t.table.'s.x']\nkey = ['id']\n", f"table.'s.x'.key: {ONLY_INCREMENTAL}"),
        (
            '[transfers.t.destination.b]\nmode = "append"\nreplace_with = "delete"\n',
            f'destination.b.replace_with: {ONLY_REPLACE} "append"',
        ),
        (
            f'{MERGE}overlap = "1h"\n',
            'overlap: expected "all", as not every table has a cursor (watermark column): set cursor',
        ),
        (
            f"{MERGE}overlap = 5\n[transfers.t.table.'s.x']\ncursor = 'u'\n",
            'overlap: expected "all", as not every table has a cursor (watermark column): set cursor',
        ),
        (
            "[transfers.t.table.'s.xz']\nwhere = 'x'\n",
            "table.'s.xz': expected a table that the transfer copies, got s.xz; did you mean \"s.x\"?",
        ),
        (
            "[transfers.t.table.'S.X']\n[transfers.t.table.'s.x']\n",
            "table.'s.x': expected each table once, got s.x, the same as S.X",
        ),
        (
            f"{MERGE}[transfers.t.table.'s.x']\ncolumns = ['v']\nkey = ['id', 'v']\n",
            "table.'s.x'.columns: expected all columns of the key, but id is missing",
        ),
        (
            f"{MERGE}key = ['id']\n[transfers.t.table.'s.x']\ncolumns = ['v']\n",
            "table.'s.x'.columns: expected all columns of the key, but id is missing",
        ),
        (
            "[transfers.t.table.'s.x']\ncolumns = ['v', 'w', 'V']\n",
            "table.'s.x'.columns[2]: expected each column once, got v again",
        ),
        *(
            (
                f"{line}\n",
                f'{line.split()[0]}: valid only with on_error "resume_next", not with "stop"',
            )
            for line in (
                "batch_rows = 250000",
                'batch_size = "20MB"',
                "max_rejects = 1",
                "max_reject_ratio = 1",
            )
        ),
        (
            f'{RESUME}format = "binary"\n',
            'format: expected "auto" or "text" with on_error "resume_next", got "binary"',
        ),
        (f'{RESUME}replace_with = "truncate"\n', f"replace_with: {ONLY_DELETE}"),
        (
            f'{RESUME}[transfers.t.destination.c]\nreplace_with = "truncate"\n',
            f"destination.c.replace_with: {ONLY_DELETE}",
        ),
        (f"{MERGE}key = ['id', 'id']\n", "key[1]: expected each column once, got id again"),
        (
            f"{MERGE}[transfers.t.table.'s.x']\nkey = ['id', 'id']\n",
            "table.'s.x'.key[1]: expected each column once, got id again",
        ),
        (
            "[transfers.t.destination.a]\n",
            'destination.a: expected one of the transfer\'s destinations, got "a"',
        ),
        (
            "[transfers.t.destination.bb]\n",
            (
                'destination.bb: expected one of the transfer\'s destinations, got "bb"; '
                'did you mean "b"?'
            ),
        ),
        (
            "[transfers.t.destination.b]\ntables = { 's.xz' = 's.zz' }\n",
            (
                "destination.b.tables.'s.xz': expected a table that the transfer copies, got s.xz; "
                'did you mean "s.x"?'
            ),
        ),
        (
            "[transfers.t.destination.b]\ntables = { 's.x' = 's.y' }\n",
            (
                "destination.b.tables.'s.x': expected a table of its own, got s.y, "
                "that of another source table"
            ),
        ),
        (
            "[transfers.t.destination.b]\ntables = { 's.x' = 'n.n', 's.y' = 'n.n' }\n",
            (
                "destination.b.tables.'s.y': expected a table of its own, got n.n, "
                "that of another source table"
            ),
        ),
        (
            "[transfers.t.destination.b]\ntables = { 's.x' = 'n.n', 'S.X' = 'n.m' }\n",
            "destination.b.tables.'S.X': expected each table once, got S.X, the same as s.x",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(refused: Refused, text: str, problem: str) -> None:
    assert refused(TABLES + text) == [f"transfers.t.{problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            APPEND,
            'mode: expected "replace", or "merge" with a key, for a query, got "append"',
        ),
        (
            f"[transfers.t.destination.b]\n{APPEND}",
            (
                'destination.b.mode: expected "replace", or "merge" with a key, for a query, '
                'got "append"'
            ),
        ),
        (
            MERGE,
            (
                'key: expected the columns that identify a row, as a query with mode "merge" has no '
                "primary key, got none"
            ),
        ),
        ("key = ['n']\n", f"key: {ONLY_INCREMENTAL}"),
        (
            "[transfers.t.table.'s.q']\nwhere = 'x'\n",
            "table.'s.q': valid only with tables, not with query",
        ),
        (
            "[transfers.t.destination.b]\ntables = { 's.x' = 's.r' }\n",
            "destination.b.tables.'s.x': expected s.q, the destination table of the query, got s.x",
        ),
    ],
)
def test_what_a_query_cannot_have_is_refused(refused: Refused, text: str, problem: str) -> None:
    assert refused(QUERY + text) == [f"transfers.t.{problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": expected either tables or query, got neither"),
        (
            'tables = ["s.x"]\nquery = "q"\ninto = "s.q"\n',
            ": expected either tables or query, got both",
        ),
        (
            'tables = ["s.x"]\ninto = "s.q"\n',
            ".into: valid only with query, not with tables",
        ),
        (
            'query = "q"\n',
            ".into: expected the destination table of the query, got none",
        ),
        (
            'tables = ["s.x", "s.*", \'"s"."x"\']\n',
            '.tables[2]: expected each table once, got "\\"s\\".\\"x\\"" again',
        ),
    ],
)
def test_tables_and_query_exclude_each_other(refused: Refused, text: str, problem: str) -> None:
    assert refused(ENDS + text) == [f"transfers.t{problem}"]


@pytest.mark.parametrize(
    ("source", "destinations", "problems"),
    [
        ("d", ["b"], ['source: expected the name of a server, got "d"']),
        (
            "a",
            ["b", "twim"],
            ['destinations[1]: expected the name of a server, got "twim"; did you mean "twin"?'],
        ),
        (
            "a",
            ["b", "a"],
            ['destinations[1]: expected another server, got "a", which is already the source'],
        ),
        (
            "d",
            ["d"],
            [
                'destinations[0]: expected another server, got "d", which is already the source',
                'destinations[0]: expected the name of a server, got "d"',
                'source: expected the name of a server, got "d"',
            ],
        ),
        (
            "a",
            ["b", "c", "b"],
            [
                (
                    'destinations[2]: expected another server, got "b", which is already another '
                    "destination"
                )
            ],
        ),
        (
            "a",
            ["b", "twin"],
            [
                (
                    'destinations[1]: expected another database, got "twin", whose conninfo is the '
                    'same as that of "b", already another destination'
                )
            ],
        ),
        (
            "twin",
            ["b"],
            [
                (
                    'destinations[0]: expected another database, got "b", whose conninfo is the same '
                    'as that of "twin", already the source'
                )
            ],
        ),
    ],
)
def test_source_and_destinations_are_servers_all_of_them_different(
    refused: Refused, source: str, destinations: list[str], problems: list[str]
) -> None:
    text = f'{SERVERS}[transfers.t]\nsource = "{source}"\ndestinations = {destinations}\n'
    assert sorted(refused(f'{text}tables = ["s.x"]\n')) == [
        f"transfers.t.{each}" for each in problems
    ]


def test_another_database_of_a_server_is_another_place(loaded: Loaded) -> None:
    text = 'source = "elsewhere"\ndestinations = ["b"]\ntables = ["s.x"]\n'
    assert loaded(f"{SERVERS}[transfers.t]\n{text}").transfers["t"].source == "elsewhere"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", [": expected either conninfo or cluster, got neither"]),
        (
            'conninfo = "host=x"\ncluster = "k"\ndbname = "x"',
            [": expected either conninfo or cluster, got both"],
        ),
        ('cluster = "k"', [".dbname: expected a database of the cluster, got none"]),
        (
            'cluster = "kk"\ndbname = "x"',
            ['.cluster: expected the name of a cluster, got "kk"; did you mean "k"?'],
        ),
        (
            'conninfo = "host=x"\ndbname = "x"',
            [(".dbname: valid only with cluster; with conninfo, write it into the conninfo")],
        ),
        (
            'conninfo = "host=x"\npassword_file = "p"\npassfile = "p"',
            [".passfile: expected either password_file or passfile, got both"],
        ),
    ],
)
def test_a_server_has_one_address(refused: Refused, text: str, problems: list[str]) -> None:
    assert refused(f"{SERVERS}[servers.x]\n{text}\n") == [f"servers.x{each}" for each in problems]


def test_a_cluster_has_one_installation(refused: Refused) -> None:
    text = '[clusters.c]\ndata_directory = "c"\nversion = 15\npg_config = "pg_config"\n'
    assert refused(text) == ["clusters.c.pg_config: expected either version or pg_config, got both"]


def test_every_error_is_told_at_once_in_order(refused: Refused) -> None:
    text = """
    trans = 1
    [servers.shop]
    conninfo = "host=db1"
    passwrd = "hush"
    [servers.us]
    cluster = "analytcs"
    [clusters.analytics]
    version = 12
    [transfers.orders]
    source = "shp"
    destinations = ["us", "us"]
    tables = ["orders"]
    every = "soon"
    minimum_destinations = 7
    cursor = "u"
    [transfers.orders.destination.su]
    """
    assert [problem.split(": ")[0] for problem in refused(text)] == [
        "clusters.analytics.data_directory",
        "clusters.analytics.version",
        "servers.shop.passwrd",
        "servers.us.cluster",
        "servers.us.dbname",
        "trans",
        "transfers.orders.cursor",
        "transfers.orders.destination.su",
        "transfers.orders.destinations[1]",
        "transfers.orders.every",
        "transfers.orders.minimum_destinations",
        "transfers.orders.source",
        "transfers.orders.tables[0]",
    ]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        # Whether it fits cannot be told as long as the mode is unknown.
        ('mode = "merg"\ncursor = "u"\ndelete_missing = true\noverlap = 5\n', ["mode"]),
        ('every = "5m"\ncron = "soon"\n', ["cron"]),
        (
            "minimum_destinations = 3\n[transfers.t.destination]\nb = 5\n",
            ["destination.b", "minimum_destinations"],
        ),
        (
            "[transfers.t.destination.b]\nmode = 5\nreplace_with = 'truncate'\n",
            ["destination.b.mode"],
        ),
        (
            "[transfers.t.table.'s.x']\ncolumns = ['v', 5, 'v']\n",
            ["table.'s.x'.columns[1]", "table.'s.x'.columns[2]"],
        ),
    ],
)
def test_what_rests_on_an_error_is_not_judged(refused: Refused, text: str, keys: list[str]) -> None:
    expected = [f"transfers.t.{key}" for key in keys]
    assert [problem.split(": ")[0] for problem in refused(TABLES + text)] == expected


def test_what_rests_on_another_sections_error_is_not_judged(refused: Refused) -> None:
    text = TABLES.replace('[servers.b]\nconninfo = "host=b"', "[servers]\nb = 5")
    assert refused(text) == ["servers.b: expected a table, got a number"]
    text = TABLES.replace('conninfo = "host=b"\n', "conninfo = 5\n")
    assert refused(text) == ["servers.b.conninfo: expected a string, got a number"]


known_keys = sorted({key for section in sections().values() for key in section.model_fields})
keys_ = st.one_of(
    st.sampled_from([*known_keys, "a", "b", "s.x", "nonsense"]),
    st.text(max_size=3),
)
values = st.recursive(
    st.one_of(
        st.sampled_from(["a", "b", "s.x", "s.*", "merge", "append", "5m", "all", "host=a", ""]),
        st.integers(-2, 20),
        st.floats(),
        st.booleans(),
        st.text(max_size=3),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys_, inner, max_size=5)),
    max_leaves=8,
)
transfer_keys = sorted(sections()["transfers", "NAME"].model_fields)
transfers = st.dictionaries(st.sampled_from(transfer_keys), values, max_size=8)
servers = st.fixed_dictionaries({"conninfo": st.sampled_from(["host=a", "host=b", "x", 5])})
configurations = st.fixed_dictionaries(
    {
        "transfers": st.one_of(values, st.dictionaries(st.sampled_from("tuv"), transfers)),
        "servers": st.one_of(values, st.dictionaries(st.sampled_from("ab"), servers)),
        "clusters": values,
    }
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations)
def test_whatever_is_written_is_taken_or_refused_with_lines(raw: dict[str, object]) -> None:
    _, problems = read(raw, Path("/etc/copyd"))
    for line in map(str, problems):
        assert "\n" not in line
        assert ": " in line


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'timezone = "UTC"\nevery = "5m"\n',
            "timezone: valid only with cron",
        ),
        ('jitter = "5m"\n', "jitter: valid only with every or cron"),
        ('catch_up = "skip"\n', "catch_up: valid only with every or cron"),
        ('every = "5m"\njitter = "6m"\n', "jitter: expected at most every (5m), got 6m"),
        (
            'breaker = { backoff = "1h", max_backoff = "1m" }\n',
            "breaker.max_backoff: expected at least backoff (1h), got 1m",
        ),
    ],
)
def test_what_belongs_to_a_schedule_fits_it(refused: Refused, text: str, problem: str) -> None:
    assert refused(f"{TABLES}{text}") == [f"transfers.t.{problem}"]


def test_a_source_lends_what_one_run_takes(refused: Refused, loaded: Loaded) -> None:
    text = TABLES.replace('"host=a"', '"host=a"\nmax_connections = 1')
    expected = "expected at least 2, as a run opens two connections to its source, got 1"
    assert refused(text) == [f"servers.a.max_connections: {expected}"]
    loaded(TABLES.replace('"host=b"', '"host=b"\nmax_connections = 1'))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[clusters.l]\ndata_directory = "x/../k"\n',
            "clusters.l.data_directory: expected a folder of its own, got the one of clusters.k",
        ),
        (
            "settings = { Work_Mem = 1, work_mem = 2 }\n",
            (
                "clusters.k.settings.work_mem: expected each setting once, got work_mem, the "
                "same as Work_Mem"
            ),
        ),
        (
            'settings = { "work mem" = 1 }\n',
            (
                "clusters.k.settings.'work mem': expected the name of a setting such as work_mem, got "
                '"work mem"'
            ),
        ),
        (
            'settings = { hba_file = "/etc/passwd" }\n',
            (
                "clusters.k.settings.hba_file: expected another setting, as copyd depends on "
                "the default of hba_file"
            ),
        ),
        (
            'settings = { work_mem = "a\\nb" }\n',
            (
                "clusters.k.settings.work_mem: expected a value without line breaks and NUL "
                "characters"
            ),
        ),
        (
            "settings = { work_mem = [1] }\n",
            "clusters.k.settings.work_mem: expected a string, a number, true or false, got a list",
        ),
        (
            "settings = { work_mem = nan }\n",
            "clusters.k.settings.work_mem: expected a finite number, got nan",
        ),
        (
            'on_exit = "kill"\n',
            'clusters.k.on_exit: expected "stop" or "leave", got "kill"',
        ),
        (
            'hba = " "\n',
            "clusters.k.hba: expected a text, got a blank one",
        ),
    ],
)
def test_what_a_cluster_cannot_be_told_is_refused(
    refused: Refused, text: str, problem: str
) -> None:
    assert refused(f'[clusters.k]\ndata_directory = "k"\n{text}') == [problem]


def test_settings_are_taken_as_they_are_written(loaded: Loaded) -> None:
    text = """
    settings = { port = 5440, fsync = false, random_page_cost = 1.5, "a.b" = "c" }
    on_exit = "stop"
    """
    cluster = loaded(f'[clusters.k]\ndata_directory = "k"\n{text}').clusters["k"]
    assert cluster.settings == {"port": 5440, "fsync": False, "random_page_cost": 1.5, "a.b": "c"}
    assert cluster.takes_over


def test_a_server_that_was_found_is_taken_over_only_where_that_is_written(loaded: Loaded) -> None:
    cluster = loaded('[clusters.k]\ndata_directory = "k"\n').clusters["k"]
    assert cluster.is_stopped_at_exit
    assert not cluster.takes_over
