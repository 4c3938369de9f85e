"""``copyd check`` and ``copyd schema``, as a person runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.program import run
from tests.support.sql import ask, execute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Server

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def test_a_file_without_errors_is_counted() -> None:
    done = run("check", "--config", str(EXAMPLE))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{EXAMPLE}: no errors, 4 servers, 3 transfers\n"


def test_one_is_not_counted_as_many(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[servers.a]\nconninfo = "host=a"\n')
    done = run("check", "--config", str(file))
    assert done.stdout == f"{file}: no errors, 1 server, 0 transfers\n"


def test_every_error_has_a_line_and_the_exit_code_is_that_of_bad_configuration(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[servers.shop]\nconninfo = "host=db1 pasword=hush"\n'
        '[transfers.orders]\nsource = "shp"\ndestinations = ["shop"]\ntables = ["public.orders"]\n'
        'stall_timeout = "soon"\n'
    )
    done = run("check", "--config", str(file))
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == (
        f"copyd: {file}: 3 errors\n"
        "  servers.shop.conninfo: the connection string cannot be read; write it as "
        '"host=... dbname=..." or as postgresql://user@host:port/dbname, with special characters '
        "percent-encoded\n"
        '  transfers.orders.source: expected the name of a server, got "shp"; '
        'did you mean "shop"?\n'
        '  transfers.orders.stall_timeout: expected a duration such as "500ms", "30s", "5m", '
        '"24h" or "7d", got "soon"\n'
    )


def test_a_single_error_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[daemon]\nflavour = 5\n")
    done = run("check", "--config", str(file))
    assert (done.returncode, done.stderr) == (78, f"copyd: {file}: daemon.flavour: unknown key\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"x =", "is not TOML: Invalid value (at end of document)"),
        (b"\xff", "line 1 is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_bad_configuration(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "config.toml"
    if content is not None:
        file.write_bytes(content)
    done = run("check", "--config", str(file))
    assert (done.returncode, done.stderr) == (78, f"copyd: {file}: {reason}\n")


def test_the_default_file_is_the_systems() -> None:
    assert "[default: /etc/copyd/config.toml]" in " ".join(run("check", "--help").stdout.split())


def test_the_schema_is_json() -> None:
    done = run("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert "transfers" in json.loads(done.stdout)["properties"]


@pytest.mark.parametrize("command", ["check", "schema"])
def test_help_says_what_a_command_is_for(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "configuration file" in done.stdout


@pytest.fixture
def shop(server: Server, database: str, tmp_path: Path) -> Iterator[Path]:
    """A configuration whose source and destination have a table, and agree."""
    with server.database() as there:
        file = tmp_path / "config.toml"
        file.write_text(
            f'[servers.shop]\nconninfo = "{server.conninfo(database)}"\n'
            f'[servers.eu]\nconninfo = "{server.conninfo(there)}"\n'
            '[transfers.orders]\nsource = "shop"\ndestinations = ["eu"]\n'
            'tables = ["public.orders"]\n'
        )
        for name in (database, there):
            execute(server.conninfo(name), "CREATE TABLE orders (id int PRIMARY KEY)")
        yield file


def test_servers_that_agree_are_a_table_without_errors(shop: Path) -> None:
    done = run("check", "--config", str(shop), "--connect")
    assert (done.returncode, done.stderr) == (0, "")
    title, *lines = [re.split(r" {2,}", line.strip()) for line in done.stdout.splitlines()]
    assert title == ["transfer", "server", "table", "severity", "sentence"]
    assert [line[:4] for line in lines] == [
        ["-", "shop", "-", "ok"],
        ["-", "shop", "-", "warning"],
        ["-", "eu", "-", "ok"],
        ["-", "eu", "-", "warning"],
        ["orders", "shop", "public.orders", "ok"],
        ["orders", "eu", "public.orders", "ok"],
    ]
    assert [line[4] for line in lines[-2:]] == ["1 column", "replace, 1 column"]


def test_what_is_wrong_at_the_servers_ends_with_1_and_names_no_password(
    shop: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "none"
    text = shop.read_text().replace('["eu"]', '["eu", "gone", "stopped"]')
    shop.write_text(
        f'{text}[servers.gone]\nconninfo = "host=127.0.0.1 port=1 user=x password=hush"\n'
        f'[clusters.own]\ndata_directory = "{elsewhere}"\n'
        '[servers.stopped]\ncluster = "own"\ndbname = "x"\n'
    )
    eu = re.findall(r'conninfo = "(.*)"', text)[1]
    execute(eu, "ALTER TABLE orders RENAME id TO number")
    done = run("check", "--config", str(shop), "--connect", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert "hush" not in done.stdout
    found = [each for each in json.loads(done.stdout)["findings"] if each["severity"] == "error"]
    assert [(each["transfer"], each["server"], each["table"]) for each in found] == [
        ("", "gone", ""),
        ("", "stopped", ""),
        ("orders", "eu", "public.orders"),
        ("orders", "gone", ""),
        ("orders", "stopped", ""),
    ]
    assert f"no server listens in {elsewhere}: start it" in found[1]["sentence"]
    assert "it has no column id" in found[2]["sentence"]
    assert all("does not answer" not in each["sentence"] for each in found)
    assert ask(eu, "SELECT to_regnamespace('copyd')") == [(None,)]


def test_json_is_of_what_is_found_at_servers() -> None:
    done = run("check", "--config", str(EXAMPLE), "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json needs --connect" in done.stderr


def test_servers_are_not_asked_while_the_file_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[daemon]\nflavour = 5\n")
    done = run("check", "--config", str(file), "--connect")
    assert (done.returncode, done.stdout) == (78, "")


def test_what_works_outside_systemd_only_is_told(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[clusters.k]\ndata_directory = "k"\non_exit = "leave"\n')
    done = run("check", "--config", str(file))
    assert done.returncode == 0
    assert 'clusters.k.on_exit: "leave" has no effect under systemd' in done.stdout
