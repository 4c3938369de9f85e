"""``copyd once`` as a black box: a configuration file in, an exit code and a report out."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support import program, toml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


Options = dict[str, object]

DEADLINE = 60.0
"""Seconds that a run may take whatever happens to it; its own deadline is shorter."""


@dataclass(frozen=True)
class Report:
    """How one destination fared, as the program says."""

    verdict: str
    rows: int
    passes: int
    cause: str | None


@dataclass(frozen=True)
class Ended:
    """A run that has ended by itself."""

    code: int
    destinations: Mapping[str, Report]
    said: str
    seconds: float

    @property
    def is_clean(self) -> bool:
        return self.code == 0


@dataclass
class Once:
    """A transfer in a configuration file, and the program that carries it out.

    ``servers`` are connection strings by name; ``transfer`` are the keys of the one transfer.
    """

    folder: Path
    servers: dict[str, str]
    transfer: Options
    name: str = "books"
    began: dict[int, float] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "copyd.toml"

    def write(self) -> None:
        document: Options = {
            "daemon": {
                "state_directory": str(self.folder / "state"),
                "runtime_directory": str(self.folder / "run"),
            },
            "servers": {name: {"conninfo": conninfo} for name, conninfo in self.servers.items()},
            "transfers": {self.name: self.transfer},
        }
        self.config.write_text(toml.written(document))
        self.config.chmod(0o600)  # it holds passwords

    def start(self, *more: str) -> subprocess.Popen[str]:
        self.write()
        arguments = ["once", self.name, "--config", str(self.config), "--json", *more]
        started = program.start(*arguments)
        self.began[started.pid] = time.monotonic()
        return started

    def run(self, *more: str) -> Ended:
        return self.finish(self.start(*more))

    def finish(self, started: subprocess.Popen[str]) -> Ended:
        """Wait for the end of a run; one that does not end is killed and fails the test."""
        try:
            output, errors = started.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            said = "".join(kill(started))
            raise AssertionError(f"copyd once did not end within {DEADLINE:g} s: {said}") from None
        seconds = time.monotonic() - self.began[started.pid]
        assert "Traceback" not in errors, errors
        assert started.returncode in (0, 1, 3), f"exit code {started.returncode}: {errors}"
        return Ended(started.returncode, _reports(output), output + errors, seconds)


def kill(started: subprocess.Popen[str]) -> tuple[str, str]:
    """End a run with SIGKILL; returns what it has said until then."""
    started.kill()
    return started.communicate(timeout=DEADLINE)


def _reports(output: str) -> dict[str, Report]:
    """Read the report; there is none where the source could not be read at all."""
    if not output.strip():
        return {}
    report = json.loads(output)
    return {
        each["destination"]: Report(
            each["verdict"], each["rows"] or 0, each["passes"], each.get("cause")
        )
        for each in report.get("destinations", [])
    }
