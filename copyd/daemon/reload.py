"""What a new configuration changes: pure. Values are never shown, they may be secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copyd.config import Config, Section

NAMED = ("servers", "clusters", "transfers")
"""Tables of sections with names of the author's own."""
SINGLE = ("daemon", "http", "log")
AT_RESTART = frozenset(
    {
        ("daemon", "state_directory"),
        ("daemon", "runtime_directory"),
        ("http", "listen"),
        ("log", "format"),
    }
)
"""What a running daemon holds on to."""


@dataclass(frozen=True, slots=True)
class Change:
    """``what`` is "added", "removed" or "changed"; ``keys`` are those of a section that changed.

    ``is_live``: it holds at once, else after a restart.
    """

    section: str
    name: str | None
    what: str
    keys: tuple[str, ...] = ()
    is_live: bool = True

    def __str__(self) -> str:
        place = self.section if self.name is None else f"{self.section}.{self.name}"
        said = f"{place} {self.what}"
        if self.keys:
            said += f": {', '.join(self.keys)}"
        return said if self.is_live else f"{said}; this holds after a restart"


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes, in the order of the file's sections."""

    changes: tuple[Change, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """Each change as a sentence."""
        return tuple(map(str, self.changes))


def diff(old: Config, new: Config) -> Plan:
    """Say what `new` changes of `old`."""
    changes = [change for section in SINGLE for change in _of_single(section, old, new)]
    for section in NAMED:
        changes += _of_named(section, getattr(old, section), getattr(new, section))
    return Plan(tuple(changes))


def effective(old: Config, new: Config) -> Config:
    """Return what holds after a reload: `new`, but for what needs a restart."""
    kept = {
        section: getattr(new, section).model_copy(
            update={
                key: getattr(getattr(old, section), key)
                for place, key in AT_RESTART
                if place == section
            }
        )
        for section in SINGLE
    }
    return new.model_copy(update=kept)


def changed_keys(old: Section, new: Section) -> tuple[str, ...]:
    """Return the keys whose values differ, in the model's order."""
    fields = type(old).model_fields
    return tuple(key for key in fields if getattr(old, key) != getattr(new, key))


def _of_single(section: str, old: Config, new: Config) -> Iterator[Change]:
    keys = changed_keys(getattr(old, section), getattr(new, section))
    for is_live in (True, False):
        chosen = tuple(key for key in keys if ((section, key) not in AT_RESTART) is is_live)
        if chosen:
            yield Change(section, None, "changed", chosen, is_live)


def _of_named(
    section: str, old: Mapping[str, Section], new: Mapping[str, Section]
) -> Iterator[Change]:
    for name in old:
        if name not in new:
            yield Change(section, name, "removed")
    for name, wanted in new.items():
        if name not in old:
            yield Change(section, name, "added")
        elif keys := changed_keys(old[name], wanted):
            yield Change(section, name, "changed", keys)
