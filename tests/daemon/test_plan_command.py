"""``copyd plan`` as a person runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.program import run
from tests.support.sql import ask, execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

SECRET = "hush hush"


@pytest.fixture
def eu(server: Server) -> Iterator[str]:
    with server.database() as name:
        execute(server.conninfo(name), "CREATE TABLE orders (id int PRIMARY KEY, note text)")
        yield server.conninfo(name)


@pytest.fixture
def shop(server: Server, database: str, eu: str, tmp_path: Path) -> Path:
    source = server.conninfo(database)
    execute(source, "CREATE TABLE orders (id int PRIMARY KEY, note text)")
    execute(source, "INSERT INTO orders VALUES (1, 'x')")
    file = tmp_path / "config.toml"
    file.write_text(
        f"[servers.shop]\nconninfo = \"{source} password='{SECRET}'\"\n"
        f"[servers.eu]\nconninfo = \"{eu} password='{SECRET}'\"\n"
        f'[servers.us]\nconninfo = "host=127.0.0.1 port=1 user=x password=hush"\n'
        '[transfers.orders]\nsource = "shop"\ndestinations = ["eu", "us"]\n'
        'tables = ["public.orders"]\nbefore = ["SET LOCAL work_mem = \'64MB\'"]\n'
    )
    file.chmod(0o600)
    return file


def test_a_plan_has_a_section_for_each_session_in_order(shop: Path) -> None:
    done = run("plan", "orders", "--config", str(shop), "--destination", "eu")
    assert (done.returncode, done.stderr) == (0, "")
    sections = done.stdout.split("\n\n")
    assert [section.splitlines()[0] for section in sections] == [
        "-- shop: source, held",
        "-- shop: source, pass 1 for eu",
        "-- eu: destination",
    ]
    source = 'COPY "public"."orders" ("id", "note") TO STDOUT (FORMAT "text");'
    there = [
        'LOCK TABLE ONLY "public"."orders" IN SHARE ROW EXCLUSIVE MODE;',
        "SET LOCAL work_mem = '64MB';",
        'DELETE FROM ONLY "public"."orders";',
        'COPY "public"."orders" ("id", "note") FROM STDIN (FORMAT "text");',
        "COMMIT;",
        'ANALYZE "public"."orders";',
    ]
    assert source in sections[1].splitlines()
    lines = sections[2].splitlines()
    assert sorted(there, key=lines[lines.index(there[0]) :].index) == there
    assert SECRET not in done.stdout


def test_a_plan_changes_nothing(shop: Path, eu: str) -> None:
    execute(eu, "INSERT INTO orders VALUES (7, 'old')")
    done = run("plan", "orders", "--config", str(shop), "--destination", "eu")
    assert done.returncode == 1
    assert "-- refused: table public.orders is not empty and no run has loaded it" in done.stdout
    execute(eu, "TRUNCATE orders")
    assert run("plan", "orders", "--config", str(shop), "--destination", "eu").returncode == 0
    assert ask(eu, "SELECT to_regnamespace('copyd')") == [(None,)]


def test_a_destination_that_cannot_be_reached_is_said_beside_the_others_plans(shop: Path) -> None:
    done = run("plan", "orders", "--config", str(shop))
    assert (done.returncode, done.stderr) == (1, "")
    assert "-- us: destination\n-- refused: cannot connect to us: " in done.stdout
    assert 'DELETE FROM ONLY "public"."orders";' in done.stdout
    assert "hush" not in done.stdout


def test_a_transfer_or_destination_that_is_not_there_is_wrong_usage(shop: Path) -> None:
    for arguments in (["ordres"], ["orders", "--destination", "asia"]):
        done = run("plan", *arguments, "--config", str(shop))
        assert (done.returncode, done.stdout) == (2, "")


def test_a_source_without_the_table_is_one_sentence(shop: Path) -> None:
    shop.write_text(shop.read_text().replace("public.orders", "public.gone"))
    done = run("plan", "orders", "--config", str(shop))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "copyd: source shop: there is no table public.gone\n"


def test_a_plan_that_cannot_be_written_is_one_sentence(shop: Path) -> None:
    words = ["plan", "orders", "--config", str(shop), "--destination", "eu"]
    done = run(*words, prefix=("/bin/sh", "-c", 'exec "$@" >/dev/full', "sh"))
    assert done.returncode == 0
    assert done.stderr.startswith("copyd: the report could not be written: ")
    assert len(done.stderr.splitlines()) == 1
