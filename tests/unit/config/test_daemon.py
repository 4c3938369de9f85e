"""What is said to the daemon alone: where it listens, which zone its clock is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from copyd.config.values import address

if TYPE_CHECKING:
    from tests.unit.config.conftest import Loaded, Refused

TRANSFER = """
[servers.a]
conninfo = "host=a"
[servers.b]
conninfo = "host=b"
[transfers.t]
source = "a"
destinations = ["b"]
tables = ["s.x"]
cron = "0 3 * * *"
"""


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:9632", ("127.0.0.1", 9632)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9632", ("::1", 9632)),
        ("copyd.example.com:65535", ("copyd.example.com", 65535)),
    ],
)
def test_an_address_is_taken_apart(loaded: Loaded, listen: str, expected: tuple[str, int]) -> None:
    config = loaded(f'[http]\nlisten = "{listen}"\n')
    assert address(config.http.listen) == expected


def test_nowhere_is_an_address_too(loaded: Loaded) -> None:
    assert loaded('[http]\nlisten = ""\n').http.listen == ""


@pytest.mark.parametrize(
    "listen",
    ['"9632"', '":9632"', '"localhost"', '"localhost:"', '"a:65536"', '"::1:80"', '"a b:80"',
     '"http://a:80"', '"a:-1"', '"a:¹"', "9632", '"[]:80"'],
)  # fmt: skip
def test_what_is_no_address_is_refused(refused: Refused, listen: str) -> None:
    (problem,) = refused(f"[http]\nlisten = {listen}\n")
    assert problem.startswith('http.listen: expected HOST:PORT such as "127.0.0.1:9632", or ""')


@pytest.mark.parametrize("zone", ['"Mars/Olympus"', '"../../etc/passwd"', '""', "1"])
def test_an_unknown_time_zone_is_refused(refused: Refused, zone: str) -> None:
    (problem,) = refused(f"{TRANSFER}timezone = {zone}\n")
    assert problem.startswith("transfers.t.timezone: expected the name of a time zone such as")


def test_the_defaults_are_those_of_a_careful_operator(loaded: Loaded) -> None:
    config = loaded(TRANSFER)
    assert (config.daemon.workers, config.daemon.shutdown_grace) == (4, 30.0)
    assert config.http.listen == "127.0.0.1:9632"
    assert config.transfers["t"].timezone == "UTC"


@pytest.mark.parametrize("workers", ["0", "1001", "true", '"4"'])
def test_workers_are_a_number_of_threads(refused: Refused, workers: str) -> None:
    (problem,) = refused(f"[daemon]\nworkers = {workers}\n")
    assert problem.startswith("daemon.workers: expected ")
