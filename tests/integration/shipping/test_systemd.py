"""What systemd itself says of the unit; where it is not installed, that cannot be asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "systemd"
UNIT = FOLDER / "copyd.service"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANALYZE), *arguments], check=False, capture_output=True, text=True, timeout=60
    )


@needs_systemd
def test_the_unit_is_exposed_to_little() -> None:
    said = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    found = re.search(r"Overall exposure level for copyd\.service: ([\d.]+)", said.stdout)
    assert found is not None, said
    assert float(found[1]) <= 2.0


@needs_systemd
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "copyd.service"
    text = UNIT.read_text()
    # The program is looked for, and it is not installed there.
    unit.write_text(text.replace("/opt/copyd/bin/copyd", sys.executable))
    assert unit.read_text() != text
    said = analyze("verify", str(unit))
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="accounts are made by root, here in a folder")
def test_the_account_and_its_folders_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for program, name in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        more = ["--create"] if name == "tmpfiles" else []
        subprocess.run(
            [program, f"--root={tmp_path}", *more, str(FOLDER / f"copyd.{name}")],
            check=True,
            capture_output=True,
        )
    (account,) = (tmp_path / "etc/passwd").read_text().splitlines()
    name, _, uid, _, _, home, _ = account.split(":")
    assert (name, home) == ("copyd", "/var/lib/copyd")
    modes = {
        path: (tmp_path / path).stat().st_mode & 0o777
        for path in ("etc/copyd", "var/lib/copyd", "run/copyd")
    }
    assert modes == {"etc/copyd": 0o750, "var/lib/copyd": 0o700, "run/copyd": 0o750}
    assert (tmp_path / "var/lib/copyd").stat().st_uid == int(uid)


def test_the_unit_is_what_the_daemon_relies_on() -> None:
    keys = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    assert keys["Type"] == "notify"  # notify-reload is not known to systemd 252
    assert keys["KillMode"] == "mixed"
    assert keys["OOMPolicy"] == "continue"
    assert "78" in keys["RestartPreventExitStatus"].split()
    assert float(keys["TimeoutStopSec"]) > 30  # shutdown_grace
    assert keys["Environment"] == "XDG_STATE_HOME=/var/lib XDG_RUNTIME_DIR=/run"
    assert (keys["StateDirectory"], keys["RuntimeDirectory"]) == ("copyd", "copyd")
    assert "MemoryDenyWriteExecute" not in keys  # PostgreSQL's JIT
    assert "ProcSubset" not in keys
    assert "RemoveIPC" not in keys
