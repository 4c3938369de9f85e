"""A cluster's settings as a mapping over its configuration files.

Reads follow includes and ``postgresql.auto.conf`` as the server does (PostgreSQL docs, "Managing
Configuration File Contents"); writes replace ``postgresql.conf`` alone, atomically.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, overload

from copyd import files
from copyd.cluster.configfile import alter, as_text, checked_name, parse

if TYPE_CHECKING:
    from pathlib import Path

Value: TypeAlias = str | float | bool | None
"""A new value of a setting; None comments the setting out."""

Changes: TypeAlias = Mapping[str, Value] | Iterable[tuple[str, Value]]

MAX_DEPTH = 10  # the server's limit for nested includes (CONF_FILE_MAX_DEPTH)


class OverriddenSettingWarning(UserWarning):
    """A setting was written, but another file overrides it."""


@dataclass(frozen=True)
class Entry:
    """A setting and its place in a file."""

    name: str
    value: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.name} = {self.value}"


class Settings(MutableMapping[str, str]):
    """A mapping over the ``postgresql.conf`` at ``path``; every call reads the files again.

    Values are read as `str`. Numbers and booleans can be set, too; None comments a setting out.
    Raises `FileNotFoundError` if a file is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<Settings in {self.path}>"

    def __getitem__(self, name: str) -> str:
        return self._effective()[name.lower()].value

    def __setitem__(self, name: str, value: Value) -> None:
        self._write_or_warn(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._write_or_warn(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._effective())

    def __len__(self) -> int:
        return len(self._effective())

    def getset(self, names: Iterable[str]) -> dict[str, str | None]:
        """Return several settings from one read; None for those not set."""
        effective = self._effective()
        found = {name: effective.get(name.lower()) for name in names}
        return {name: entry.value if entry else None for name, entry in found.items()}

    @overload  # type: ignore[override]
    def update(self, changes: Mapping[str, Value], /, **more: Value) -> tuple[Entry, ...]: ...
    @overload
    def update(
        self, changes: Iterable[tuple[str, Value]] = (), /, **more: Value
    ) -> tuple[Entry, ...]: ...
    def update(self, changes: Changes = (), /, **more: Value) -> tuple[Entry, ...]:
        """Change several settings in one write; None comments a setting out.

        Returns the entries of other files that override them: an include, or ``ALTER SYSTEM``'s.
        """
        wanted = {**dict(changes), **more}
        texts = {
            checked_name(name): None if value is None else as_text(value)
            for name, value in wanted.items()
        }
        replace_file(self.path, alter(read_file(self.path), texts))
        # Includes may follow the changed line, and ALTER SYSTEM's file is read last.
        effective = self._effective()
        last = [effective[name.lower()] for name in texts if name.lower() in effective]
        return tuple(entry for entry in last if entry.path != self.path)

    def _write_or_warn(self, name: str, value: Value) -> None:
        for entry in self.update({name: value}):
            warnings.warn(
                f"{name} was written to {self.path}, but {entry} overrides it",
                OverriddenSettingWarning,
                stacklevel=3,
            )

    def _effective(self) -> dict[str, Entry]:
        entries = [*read_entries(self.path)]
        with suppress(FileNotFoundError):  # ALTER SYSTEM was never used, or removed its file
            entries += read_entries(self.path.with_name("postgresql.auto.conf"))
        return {entry.name: entry for entry in entries}


def read_entries(path: Path, *, depth: int = 0) -> Iterator[Entry]:
    """Read a configuration file and, at the include's place, each included file.

    Raises `RecursionError` if includes nest deeper than the server allows.
    """
    if depth > MAX_DEPTH:
        raise RecursionError(f"{path} is included more than {MAX_DEPTH} files deep")
    for line in parse(read_file(path)):
        named = path.parent / line.value
        if line.name == "include":
            yield from read_entries(named, depth=depth + 1)
        elif line.name == "include_if_exists":
            if named.exists():
                yield from read_entries(named, depth=depth + 1)
        elif line.name == "include_dir":
            for included in _configuration_files(named):
                yield from read_entries(included, depth=depth + 1)
        else:
            yield Entry(line.name, line.value, path, line.number)


def read_file(path: Path) -> str:
    """Read a configuration file; bytes that are not UTF-8 survive a later write."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def replace_file(path: Path, text: str) -> None:
    """Replace a configuration file atomically; its mode and owner stay."""
    path = path.resolve()  # else a symbolic link would be replaced by a file
    files.replace_file(path, text.encode("utf-8", "surrogateescape"), like=path.stat())


def _configuration_files(directory: Path) -> list[Path]:
    found = [path for path in directory.iterdir() if path.suffix == ".conf"]
    visible = [path for path in found if not path.name.startswith(".") and path.is_file()]
    return sorted(visible, key=lambda path: os.fsencode(path.name))
