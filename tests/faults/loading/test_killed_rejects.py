"""Rejects are there exactly where their run was committed, whenever somebody is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", ["load", "commit", "roll_back", "come_again", "grow_old"])
def test_a_kill_before_any_call_leaves_neither_too_many_rejects_nor_too_few(
    tmp_path: Path, story: str
) -> None:
    """The run is killed before each of its calls, whoever resolves it before every seventh.

    In the long form, which COPYD_TEST_KILLS asks for, before each of them as well.
    """
    stride = 1 if "COPYD_TEST_KILLS" in os.environ else 7
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_rejects", story, str(tmp_path), str(stride)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=590,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
