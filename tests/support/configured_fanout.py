"""A fan-out in a configuration file, and the installed program that reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.fanout import SOURCE, Fanout
from tests.support.program import run

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

NOWHERE = "host=127.0.0.1 port=1 dbname=none user=none"
USUAL = {"destinations": '["eu", "us"]', "reintroduce": '{ attempts = 1, backoff = "50ms" }'}
TABLES = {"tables": '["public.t"]'}


@dataclass
class ConfiguredFanout(Fanout):
    """The servers are reached over TCP, with passwords."""

    file: Path = field(kw_only=True)

    def create(self, *statements: str, replicas: int = 1, more: str = "", fill: str = "") -> None:
        super().create(*statements, replicas=replicas, more=more, fill=fill)
        for name in self.conninfos:
            self.conninfos[name] = self.server.tcp_conninfo(self.databases[name])

    def configure(self, **transfers: str) -> None:
        """Write the file; each transfer has the usual keys and those given."""
        lines = []
        for name, conninfo in self.conninfos.items():
            lines += [f"[servers.{name}]", f"conninfo = {json.dumps(conninfo)}"]
        for name, more in transfers.items():
            lines += [f"[transfers.{name}]", f'source = "{SOURCE}"']
            given = more.splitlines()
            is_query = any(line.startswith("query =") for line in given)
            for key, value in {**USUAL, **({} if is_query else TABLES)}.items():
                if not any(line.startswith(f"{key} =") for line in given):
                    lines.append(f"{key} = {value}")
            lines += given
        self.file.write_text("\n".join(lines) + "\n")

    def copyd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = run(*arguments, "--config", str(self.file))
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def report(self, *arguments: str) -> dict[str, Any]:
        """What ``copyd once`` says to machines."""
        done = self.copyd("once", *(arguments or ("books",)), "--json")
        assert done.stderr == ""
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def is_equal(self, place: str) -> bool:
        query = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY id)) FROM t"
        return self.ask(place, query) == self.ask(SOURCE, query)
