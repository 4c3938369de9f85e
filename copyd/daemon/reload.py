"""The differences of two configurations: pure. Values are not shown: they may be secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copyd.config import Config, Section

NAMED, SINGLE = ("servers", "clusters", "transfers"), ("daemon", "http", "log")
AT_RESTART = {
    "daemon": ("state_directory", "runtime_directory"),
    "http": ("listen",),
    "log": ("format",),
}
"""Keys that a reload does not change: a running daemon holds their files, sockets and format."""


def diff(old: Config, new: Config) -> tuple[str, ...]:
    """Return the changes from `old` to `new`, each as a sentence."""
    changes = [change for section in SINGLE for change in _of_single(section, old, new)]
    for section in NAMED:
        changes += _of_named(section, getattr(old, section), getattr(new, section))
    return tuple(changes)


def effective(old: Config, new: Config) -> Config:
    """Return the configuration after a reload: `new`, except for `AT_RESTART`."""
    kept: dict[str, Section] = {}
    for section, keys in AT_RESTART.items():
        held = {key: getattr(getattr(old, section), key) for key in keys}
        kept[section] = getattr(new, section).model_copy(update=held)
    return new.model_copy(update=kept)


def changed_keys(old: Section, new: Section) -> tuple[str, ...]:
    """Return the keys with different values, in the model's order."""
    fields = type(old).model_fields
    return tuple(key for key in fields if getattr(old, key) != getattr(new, key))


def _of_single(section: str, old: Config, new: Config) -> Iterator[str]:
    keys = changed_keys(getattr(old, section), getattr(new, section))
    at_once = [key for key in keys if key not in AT_RESTART[section]]
    if at_once:
        yield f"{section} changed: {', '.join(at_once)}"
    if len(at_once) < len(keys):
        later = ", ".join(key for key in keys if key in AT_RESTART[section])
        yield f"{section} changed: {later}; this takes effect after a restart"


def _of_named(
    section: str, old: Mapping[str, Section], new: Mapping[str, Section]
) -> Iterator[str]:
    for name in old:
        if name not in new:
            yield f"{section}.{name} removed"
    for name, wanted in new.items():
        if name not in old:
            yield f"{section}.{name} added"
        elif keys := changed_keys(old[name], wanted):
            yield f"{section}.{name} changed: {', '.join(keys)}"
