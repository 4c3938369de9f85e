"""``copyd run`` as a process of its own: a configuration in, its log and its answers out."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from copyd import control_socket
from copyd.cluster.poll import wait_for
from copyd.errors import CopydError
from tests.support import program, toml

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

Line = dict[str, Any]
Options = dict[str, Any]

PATIENCE = 30.0
"""Seconds until something must have happened."""
QUICK: Options = {"attempts": 0, "backoff": "50ms", "max_backoff": "50ms"}


@dataclass
class Daemon:
    """A daemon in `folder`; leaving the block kills what still runs.

    ``servers`` are connection strings by name, ``transfers`` and ``clusters`` sections by name.
    """

    folder: Path
    servers: dict[str, str] = field(default_factory=dict)
    transfers: dict[str, Options] = field(default_factory=dict)
    clusters: dict[str, Options] = field(default_factory=dict)
    options: dict[str, Options] = field(default_factory=dict)
    clustered: dict[str, str] = field(default_factory=dict)  # servers of clusters
    process: subprocess.Popen[str] | None = None
    lines: list[Line] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "copyd.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def socket(self) -> Path:
        return self.folder / "run" / control_socket.NAME

    def write(self) -> None:
        """Write the configuration file."""
        servers: dict[str, Options] = {n: {"conninfo": c} for n, c in self.servers.items()}
        for name, cluster in self.clustered.items():
            servers[name] = {"cluster": cluster, "dbname": "postgres"}
        document: Options = {
            "http": {"listen": ""},
            **self.options,
            "daemon": {
                "state_directory": str(self.state),
                "runtime_directory": str(self.folder / "run"),
                **self.options.get("daemon", {}),
            },
            "servers": servers,
            "clusters": self.clusters,
            "transfers": self.transfers,
        }
        self.config.write_text(toml.written(document))
        self.config.chmod(0o600)  # it holds passwords

    def start(self, *, env: Mapping[str, str] | None = None) -> Self:
        """Start it and wait until it is ready."""
        self.launch(env=env)
        self.await_event("daemon.ready")
        return self

    def launch(self, *, env: Mapping[str, str] | None = None) -> None:
        """Start it; its log is read from now on."""
        self.write()
        self.lines.clear()
        self.said.clear()
        self.process = program.start("run", "--config", str(self.config), env=env)
        reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        reader.start()
        self._readers = [reader]

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.said.append(line)
            with suppress(ValueError):
                self.lines.append(json.loads(line))

    def await_event(self, name: str, *, number: int = 1, **facts: object) -> Line:
        """Wait until the log has so many lines of an event with these facts; return the last."""
        found: list[Line] = []

        def has_come() -> bool:
            found[:] = self.events(name, **facts)
            return len(found) >= number or self.code is not None

        wait_for(has_come, timeout=PATIENCE)
        assert len(found) >= number, f"no {name} {facts}:\n{''.join(self.said[-40:])}"
        return found[number - 1]

    def events(self, name: str, **facts: object) -> list[Line]:
        return [
            line
            for line in list(self.lines)
            if line["event"] == name and all(line.get(key) == facts[key] for key in facts)
        ]

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        return None if self.process is None else self.process.poll()

    def ask(self, command: str, **more: object) -> Line:
        return control_socket.ask(self.socket, {"command": command, **more}, within=PATIENCE)

    def transfer(self, name: str) -> Line:
        """What the daemon's status says of a transfer; its destinations by name."""
        found: Line = next(t for t in self.ask("status")["transfers"] if t["name"] == name)
        found["destinations"] = {each["name"]: each for each in found["destinations"]}
        return found

    def await_status(self, claim: Callable[[Line], bool], *, within: float = PATIENCE) -> Line:
        """Wait until the status is as claimed; return it."""
        found: list[Line] = []

        def is_so() -> bool:
            with suppress(CopydError):
                found[:] = [self.ask("status")]
            return bool(found) and claim(found[0])

        assert wait_for(is_so, timeout=within), json.dumps(found, indent=2)
        return found[0]

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def reload(self) -> None:
        """Write the file anew and have it read."""
        self.write()
        self.send(signal.SIGHUP)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        code = self.process.wait(PATIENCE * 2)
        self._let_go()
        assert "Traceback" not in "".join(self.said), "".join(self.said)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._let_go()

    def _let_go(self) -> None:
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr) if self.process else ():
            if stream is not None:
                stream.close()
