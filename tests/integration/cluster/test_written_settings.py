"""What is written is what the server shows, and what the server reads is what is read here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copyd.cluster import OverriddenSettingWarning

if TYPE_CHECKING:
    from collections.abc import Callable

    from copyd.cluster import Cluster

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"))
NAMES = st.from_regex(r"\Acopyd\.[a-z_][a-z0-9_]{0,5}\Z")

FILES = [
    "work_mem = 1234kB",
    "WORK_MEM '1234kB'",
    "work_mem'1234kB'",
    "work_mem=1234kB # comment",
    "work_mem = '1234kB' # it's a comment",
    "work_mem = 1\n#work_mem = 2\nwork_mem = '\\061234kB'",
    "  work_mem\t1234\r",
    "a.b = 'it''s'\nA.C = 'x\\\\y\\tz \\303\\251'",
    "Include 'more.conf'",
    "work_mem = 1\ninclude = 'more.conf'\nport = 1",
    "include_if_exists 'more.conf'\ninclude_if_exists = 'absent.conf'",
    "include_dir = 'conf.d'",
]


def applied(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """What the server itself reads in its files, the last of a name."""
    # Rows without a name are complaints about settings that need a restart.
    query = "SELECT name, setting FROM pg_file_settings WHERE name IS NOT NULL ORDER BY seqno"
    return {name.lower(): setting for name, setting in connection.execute(query)}


@pytest.fixture
def connection(cluster: Cluster) -> Any:
    with cluster, psycopg.connect(cluster.conninfo(), autocommit=True) as connected:
        yield connected


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.dictionaries(NAMES, VALUES, min_size=1, max_size=10))
def test_what_is_written_is_what_the_server_reads(
    cluster: Cluster, connection: psycopg.Connection[Any], changes: dict[str, str]
) -> None:
    cluster.settings.update(changes)
    found = applied(connection)
    assert {name: found[name] for name in changes} == changes


@pytest.mark.parametrize("text", FILES)
def test_a_file_is_read_as_the_server_reads_it(
    cluster: Cluster, connection: psycopg.Connection[Any], text: str
) -> None:
    (cluster.data_directory / "more.conf").write_text("work_mem = 1234kB\n")
    (cluster.data_directory / "conf.d").mkdir()
    for name, value in (("b.conf", "1234kB"), ("a.conf", "1"), (".c.conf", "1"), ("d.cfg", "1")):
        (cluster.data_directory / "conf.d" / name).write_text(f"work_mem = {value}\n")
    (cluster.data_directory / "conf.d").chmod(0o755)
    cluster.settings.path.write_text(text)
    assert dict(cluster.settings) == applied(connection)


def test_what_alter_system_wrote_is_read_and_a_write_under_it_warns(
    cluster: Cluster, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("ALTER SYSTEM SET work_mem = '7MB'")
    assert cluster.settings["work_mem"] == "7MB"
    with pytest.warns(OverriddenSettingWarning, match="work_mem = 7MB overrides it"):
        cluster.settings["work_mem"] = "8MB"
    assert applied(connection)["work_mem"] == "7MB"


def test_a_value_is_shown_after_a_restart(copies: Callable[[str], Cluster]) -> None:
    cluster = copies("shown")
    cluster.settings["cluster_name"] = r"it's a \ # 'name'"
    with cluster, psycopg.connect(cluster.conninfo()) as connected:
        assert connected.execute("SHOW cluster_name").fetchone() == (r"it's a \ # 'name'",)


def test_the_files_mode_and_owner_stay(cluster: Cluster) -> None:
    before = cluster.settings.path.stat()
    cluster.settings["port"] = 5432
    after = cluster.settings.path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        before.st_uid, before.st_gid, before.st_mode,
    )  # fmt: skip
