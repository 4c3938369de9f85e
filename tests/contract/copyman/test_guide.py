"""Every sample of docs/copyman.md runs as it stands, and ends."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.copyman.conftest import Bench

GUIDE = (Path(__file__).parents[3] / "docs" / "copyman.md").read_text()
SAMPLES = [
    (part.partition("\n")[0], sample)
    for part in GUIDE.split("\n## ")
    for sample in re.findall(r"```python\n(.*?)```", part, re.DOTALL)
]
SAID = {
    "One call": "500 rows, 8284 bytes, through plain\n",
    "Progress": "12913 bytes, 500 rows to 2 replicas\n",
    "When a replica fails": 'COPY orders, line 1: "1\tcustomer 1"\n500 rows completed\n',
    "When a replica is slow": "",
    "Rows that are refused": "row 500: 23514 no_hundreds\n495 loaded, 5 rejected\n",
    "Without a server at one end": "500 lines\n",
    "Testing without a server": "['TimeoutError']\n['UniqueViolation']\n10 True 2 None\n",
}


def test_the_guide_has_these_samples() -> None:
    assert [title for title, _ in SAMPLES] == list(SAID)


@pytest.mark.parametrize(("title", "sample"), SAMPLES, ids=[title for title, _ in SAMPLES])
def test_a_sample_runs_and_says_what_it_should(plain_bench: Bench, title: str, sample: str) -> None:
    connections = {name: plain_bench.connect() for name in ("source", "replica", "spare")}
    for connection in connections.values():
        connection.execute("CREATE TEMP TABLE orders (id int, customer text)")
    connections["source"].execute(
        "INSERT INTO orders SELECT i, 'customer ' || i FROM generate_series(1, 500) i"
    )
    said = StringIO()
    with redirect_stdout(said):
        exec(compile(sample, title, "exec"), dict(connections))  # noqa: S102 - our own document
    assert SAID[title] in said.getvalue()
