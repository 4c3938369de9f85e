"""The one place that waits: for several parties at once, with a deadline for each."""

from __future__ import annotations

import select
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from copyd.copyman.ports import Pumped

    Party = TypeVar("Party", bound=Pumped)


def wait(parties: Iterable[Party], timeout: float | None) -> list[Party]:
    """Wait up to `timeout` seconds; returns those of `parties` that can go on."""
    by_descriptor: dict[int, Party] = {}
    poller = select.poll()
    for party in parties:
        descriptor = party.fileno()
        if descriptor is None:
            return [party]
        by_descriptor[descriptor] = party
        poller.register(descriptor, party.events)
    milliseconds = None if timeout is None else max(timeout, 0.0) * 1_000
    return [by_descriptor[descriptor] for descriptor, _ in poller.poll(milliseconds)]


def attend(
    speaker: Pumped, bystanders: Iterable[Party], *, stall_timeout: float | None
) -> dict[Party, Exception]:
    """Wait until there is something from `speaker`, and listen to `bystanders` meanwhile.

    Returns as soon as some of them raised, with what they raised; nothing if `speaker` is ready.

    Raises TimeoutError where `speaker` was silent for `stall_timeout` seconds.
    """
    listening = [party for party in bystanders if party.fileno() is not None]
    deadline = None if stall_timeout is None else monotonic() + stall_timeout
    faults: dict[Party, Exception] = {}
    while not faults:
        remaining = None if deadline is None else deadline - monotonic()
        parties: list[Pumped] = [speaker, *listening]
        ready = wait(parties, remaining)
        if speaker in ready:
            break
        if not ready:
            raise TimeoutError(f"no data for {stall_timeout:g} s")
        _pump_all([party for party in listening if party in ready], faults)
    return faults


def drive(parties: Iterable[Party], *, stall_timeout: float | None) -> dict[Party, Exception]:
    """Pump each of `parties` until its step is done.

    Returns what went wrong, by party: what its pump raised, or a TimeoutError for one that made
    no progress for `stall_timeout` seconds. None of them waits for another's fault.
    """
    faults: dict[Party, Exception] = {}
    pending = _pump_all(parties, faults)
    moved = {party: (party.progress, monotonic()) for party in pending}
    while moved:
        now = monotonic()
        for party, (progress, since) in list(moved.items()):
            if party.progress != progress:
                moved[party] = (party.progress, now)
            elif stall_timeout is not None and now - since >= stall_timeout:
                faults[party] = TimeoutError(f"no progress for {stall_timeout:g} s")
                del moved[party]
        remaining = _remaining(moved.values(), stall_timeout, now)
        ready = wait(moved, remaining) if moved else []
        for party in set(ready) - set(_pump_all(ready, faults)):
            del moved[party]
    return faults


def _remaining(
    moved: Iterable[tuple[int, float]], stall_timeout: float | None, now: float
) -> float | None:
    """Seconds until the first of them would have stalled."""
    if stall_timeout is None:
        return None
    return min((since for _, since in moved), default=now) + stall_timeout - now


def _pump_all(parties: Iterable[Party], faults: dict[Party, Exception]) -> list[Party]:
    """Pump each once; returns those that are not done, and adds what they raise to `faults`."""
    unfinished = []
    for party in parties:
        try:
            if not party.pump():
                unfinished.append(party)
        except Exception as error:  # noqa: BLE001 - the boundary where an exception becomes a fault
            faults[party] = error
    return unfinished
