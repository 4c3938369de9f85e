"""docs/operations.md is in step with what is there."""

from __future__ import annotations

import re
from pathlib import Path

from copyd.config.validation import sections
from copyd.daemon.reload import AT_RESTART
from copyd.observe.logs import name_of
from tests.support.status_samples import kinds

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()


def test_what_needs_a_restart_is_listed() -> None:
    _, _, table = PAGE.partition("<!-- reload -->")
    rows = [line for line in table.partition("\n\n")[0].splitlines() if line.startswith("| `")]
    (last,) = [line for line in rows if line.endswith("| after a restart |")]
    assert set(re.findall(r"`([a-z_.]+)`", last)) == {
        f"{section}.{key}" for section, keys in AT_RESTART.items() for key in keys
    }


def test_every_key_in_the_table_exists() -> None:
    _, _, table = PAGE.partition("<!-- reload -->")
    for name in re.findall(r"`(daemon|http|log)\.([a-z_]+)`", table.partition("\n\n")[0]):
        assert name[1] in sections()[(name[0],)].model_fields


def test_every_event_of_the_runbook_exists() -> None:
    known = {name_of(object.__new__(kind)) for kind in kinds()}
    _, _, table = PAGE.partition("## Runbook")
    named = re.findall(r"(?m)^\| `([a-z_]+\.[a-z_]+)`", table.partition("\n\n**")[0])
    assert len(named) > 10
    assert set(named) <= known
