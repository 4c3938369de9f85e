"""``copyd verify`` and ``copyd once --verify``, as a person runs them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.configured_fanout import NOWHERE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.configured_fanout import ConfiguredFanout

USUAL = 'tables = ["public.*"]\ndeadline = "10s"\nreintroduce = { attempts = 0 }\n'


@pytest.fixture
def site(configured: ConfiguredFanout) -> ConfiguredFanout:
    configured.create(
        "CREATE TABLE a (i int PRIMARY KEY, x text); CREATE TABLE b (i int)",
        replicas=2,
        fill="INSERT INTO a SELECT i, 'x' FROM generate_series(1, 1500) i",
    )
    configured.configure(books=USUAL)
    return configured


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_difference_has_a_line_and_exit_code_1(site: ConfiguredFanout) -> None:
    assert site.copyd("once", "books").returncode == 0
    done = site.copyd("verify", "books")
    assert (done.returncode, done.stderr) == (0, "")
    assert lines(done.stdout) == [
        "destination table source rows destination rows verdict",
        "eu public.a 1,500 1,500 equal",
        "eu public.b 0 0 equal",
        "us public.a 1,500 1,500 equal",
        "us public.b 0 0 equal",
    ]
    site.do("us", "UPDATE a SET x = 'y' WHERE i = 7")
    done = site.copyd("verify", "books")
    assert (done.returncode, done.stderr) == (1, "")
    assert lines(done.stdout)[3] == "us public.a 1,500 1,500 differs"
    assert site.copyd("verify", "books", "--destination", "eu").returncode == 0


def test_what_cannot_be_compared_has_its_reason_and_exit_code_4(site: ConfiguredFanout) -> None:
    site.conninfos["us"] = NOWHERE
    site.configure(books=USUAL)
    assert site.copyd("once", "books", "--destination", "eu").returncode == 0
    done = site.copyd("verify", "books", "--json")
    assert (done.returncode, done.stderr) == (4, "")
    told = json.loads(done.stdout)
    assert (told["transfer"], told["verdict"], told["cause"]) == ("books", "not compared", None)
    assert told["tables"][0] == {
        "destination": "eu",
        "table": "public.a",
        "there": "public.a",
        "source_rows": 1500,
        "rows": 1500,
        "verdict": "equal",
        "reason": None,
    }
    assert told["tables"][2]["rows"] is None
    assert told["tables"][2]["reason"].startswith("cannot connect to us: ")
    site.do("eu", "DELETE FROM a WHERE i = 1")
    assert site.copyd("verify", "books").returncode == 1


def test_a_source_that_cannot_be_read_is_one_sentence_and_exit_code_4(
    site: ConfiguredFanout,
) -> None:
    site.do("source", "DROP TABLE a, b")
    done = site.copyd("verify", "books", "--json")
    assert done.returncode == 4
    told = json.loads(done.stdout)
    assert (told["verdict"], told["tables"]) == ("not compared", [])
    assert done.stderr == f"copyd: {told['cause']}\n"


def test_wrong_names_are_wrong_usage(site: ConfiguredFanout) -> None:
    done = site.copyd("verify", "boks")
    assert (done.returncode, done.stdout) == (2, "")
    assert 'did you mean "books"?' in done.stderr
    done = site.copyd("verify", "books", "--destination", "de")
    assert done.returncode == 2
    assert "has no destination de: it has eu, us" in done.stderr


def test_a_run_can_be_verified(site: ConfiguredFanout) -> None:
    done = site.copyd("once", "books", "--verify", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    eu, us = json.loads(done.stdout)["destinations"]
    assert eu["verified"]["verdict"] == us["verified"]["verdict"] == "equal"
    assert [each["rows"] for each in eu["verified"]["tables"]] == [1500, 0]
    done = site.copyd("once", "books", "--verify")
    assert lines(done.stdout)[-1] == "us public.b 0 0 equal"
    assert "verified" not in site.copyd("once", "books", "--json").stdout


def test_a_run_whose_rows_are_changed_on_arrival_differs(site: ConfiguredFanout) -> None:
    site.configure(
        books=USUAL
        + "[transfers.books.destination.us]\nafter = [\"UPDATE public.a SET x = 'own'\"]\n"
    )
    done = site.copyd("once", "books", "--verify", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    eu, us = json.loads(done.stdout)["destinations"]
    assert (eu["verdict"], us["verdict"]) == ("succeeded", "succeeded")
    assert (eu["verified"]["verdict"], us["verified"]["verdict"]) == ("equal", "differs")


def test_only_destinations_that_succeeded_are_verified(site: ConfiguredFanout) -> None:
    site.conninfos["us"] = NOWHERE
    site.configure(books=USUAL)
    done = site.copyd("once", "books", "--verify", "--json")
    assert done.returncode == 3
    eu, us = json.loads(done.stdout)["destinations"]
    assert eu["verified"]["verdict"] == "equal"
    assert us["verified"] is None


def test_a_run_without_a_success_compares_nothing(site: ConfiguredFanout) -> None:
    site.everywhere("DROP TABLE a", at=("eu", "us"))
    done = site.copyd("once", "books", "--verify", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert [each["verified"] for each in told["destinations"]] == [None, None]


def test_a_run_that_could_not_be_compared_has_exit_code_4(site: ConfiguredFanout) -> None:
    """The tables are taken away once the run has committed."""
    site.configure(
        books=USUAL + '[transfers.books.destination.us]\nafter_commit = ["DROP TABLE public.a"]\n'
        "analyze = false\n"
    )
    done = site.copyd("once", "books", "--verify", "--json")
    assert done.returncode == 4
    us = json.loads(done.stdout)["destinations"][1]
    assert us["verified"]["tables"][0]["reason"] == "there is no table public.a"


def test_a_source_without_an_address_leaves_everything_uncompared(
    site: ConfiguredFanout, tmp_path: Path
) -> None:
    text = site.file.read_text()
    conninfo = f"conninfo = {json.dumps(site.conninfos['source'])}"
    site.file.write_text(
        f'[clusters.own]\ndata_directory = "{tmp_path / "none"}"\n'
        + text.replace(conninfo, 'cluster = "own"\ndbname = "x"')
    )
    done = site.copyd("verify", "books", "--json")
    assert done.returncode == 4
    assert "no server listens in" in done.stderr
    told = json.loads(done.stdout)
    assert (told["transfer"], told["verdict"], told["tables"]) == ("books", "not compared", [])
    site.file.write_text(text.replace(conninfo, f'{conninfo}\npassword_file = "none.pw"'))
    done = site.copyd("verify", "books")
    assert (done.returncode, done.stdout) == (78, "")


def test_what_differs_by_design_says_so(site: ConfiguredFanout) -> None:
    site.configure(
        books=USUAL + 'mode = "merge"\n[transfers.books.table."public.a"]\nkey = ["i"]\n'
    )
    site.everywhere("DROP TABLE b")
    assert site.copyd("once", "books").returncode == 0
    site.do("source", "DELETE FROM a WHERE i = 7")
    assert site.copyd("once", "books").returncode == 0
    done = site.copyd("verify", "books")
    assert done.returncode == 1
    assert lines(done.stdout)[1] == (
        "eu public.a 1,499 1,500 differs: under merge rows that the source no longer has stay "
        "there by design; copyd once books --full loads all anew"
    )
    assert site.copyd("once", "books", "--full").returncode == 0
    assert site.copyd("verify", "books").returncode == 0
