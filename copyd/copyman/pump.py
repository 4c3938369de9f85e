"""Pumps the parties of a copy; the only place that waits, with a single poll and a deadline for each."""

# Decision: Everything is pumped, one place waits

from __future__ import annotations

import select
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from copyd.copyman.fairness import Lags

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from copyd.copyman.ports import Pumped

    Party = TypeVar("Party", bound=Pumped)


def wait(parties: Iterable[Party], timeout: float | None) -> list[Party]:
    """Wait up to `timeout` seconds; returns the ready `parties`."""
    by_descriptor: dict[int, Party] = {}
    poller = select.poll()  # select.select refuses descriptors from 1024 on
    for party in parties:
        descriptor = party.fileno()
        if descriptor is None:
            return [party]  # nothing to wait for
        by_descriptor[descriptor] = party
        poller.register(descriptor, party.events)
    milliseconds = None if timeout is None else max(timeout, 0.0) * 1_000
    return [by_descriptor[descriptor] for descriptor, _ in poller.poll(milliseconds)]


def attend(
    awaited: Pumped, bystanders: Iterable[Party], *, stall_timeout: float | None
) -> dict[Party, Exception]:
    """Wait until `awaited` is ready, and pump ready `bystanders` meanwhile.

    Returns early with the faults of bystanders, if any.

    Raises TimeoutError if `awaited` is silent for `stall_timeout` seconds.
    """
    listening = [party for party in bystanders if party.fileno() is not None]
    deadline = None if stall_timeout is None else monotonic() + stall_timeout
    faults: dict[Party, Exception] = {}
    while not faults:
        remaining = None if deadline is None else deadline - monotonic()
        parties: list[Pumped] = [awaited, *listening]
        ready = wait(parties, remaining)
        if awaited in ready:
            break
        if not ready:
            raise TimeoutError(f"no data for {stall_timeout:g} s")
        _pump_all([party for party in listening if party in ready], faults, Lags())
    return faults


class Limits(NamedTuple):
    """How long to wait for a party, in seconds; None is for ever."""

    stall_timeout: float | None
    max_wait: float | None = None

    def remaining(self, *, idle: float, lag: float) -> float:
        """Return the seconds until a party is at fault; 0 or less for a party at fault.

        `idle`: seconds since its last progress; `lag`: seconds behind the waiting parties.
        """
        return min(_left(self.stall_timeout, idle), _left(self.max_wait, lag))

    def fault(self, *, idle: float) -> TimeoutError:
        """Return the error of a party at fault after `idle` seconds without progress."""
        if _left(self.stall_timeout, idle) <= 0:
            return TimeoutError(f"no progress for {self.stall_timeout:g} s")
        return TimeoutError(f"held the others back for {self.max_wait:g} s")


def _left(limit: float | None, used: float) -> float:
    return inf if limit is None else limit - used


def drive(
    parties: Iterable[Party],
    limits: Limits,
    lags: Lags[Party] | None = None,
    *,
    behind: Callable[[], Iterable[Party]] = tuple,
    moved: dict[Party, tuple[int, float]] | None = None,
    until: float = inf,
) -> dict[Party, Exception]:
    """Pump each of `parties` until its step is done; pump those of `behind` beside them.

    Returns the faults by party: the exception of its pump, or a TimeoutError at one of `limits`. No
    party waits for another's fault.

    At the moment `until` the call returns early: `moved` then holds the unfinished parties, each
    with its progress and the moment of its last progress. A further call drives only these.

    Charges each party in `lags` with its own pumping and with the waiting for it.
    """
    faults: dict[Party, Exception] = {}
    lags = Lags() if lags is None else lags
    members = frozenset(parties)
    moved = {} if moved is None else moved
    pending = _pump_all(members & moved.keys() if moved else members, faults, lags)
    for party in moved.keys() - pending:
        del moved[party]
    for party in pending:
        moved.setdefault(party, (party.progress, monotonic()))
    while moved:
        now = monotonic()
        if now >= until:
            break
        _note_moves(moved, now)
        done = members - moved.keys() - faults.keys()
        remaining = {
            party: limits.remaining(idle=now - since, lag=lags.lag(party, done))
            for party, (_, since) in moved.items()
        }
        for party in [party for party, seconds in remaining.items() if seconds <= 0]:
            _, since = moved.pop(party)
            faults[party] = limits.fault(idle=now - since)
        soonest = min((remaining[party] for party in moved), default=0.0)
        soonest = min(soonest, until - now)
        if not moved:
            break
        beside = [party for party in behind() if party not in moved and party not in faults]
        ready = wait([*moved, *beside], None if soonest == inf else soonest)
        waited = monotonic() - now
        for party in moved:
            lags.charge(party, waited)
        for party in set(ready) - set(_pump_all(ready, faults, lags)):
            moved.pop(party, None)
    return faults


def _note_moves(moved: dict[Party, tuple[int, float]], now: float) -> None:
    for party, (progress, _) in moved.items():
        if (current := party.progress) != progress:
            moved[party] = current, now


def _pump_all(
    parties: Iterable[Party], faults: dict[Party, Exception], lags: Lags[Party]
) -> list[Party]:
    unfinished = []
    began = monotonic()
    for party in parties:
        try:
            if not party.pump():
                unfinished.append(party)
        except Exception as error:  # noqa: BLE001 - the boundary where an exception becomes a fault
            faults[party] = error
        ended = monotonic()
        lags.charge(party, ended - began)
        began = ended
    return unfinished


def each(parties: Iterable[Party], step: Callable[[Party], None]) -> dict[Party, Exception]:
    """Call `step` with each of `parties`; returns the faults by party."""
    faults: dict[Party, Exception] = {}
    for party in parties:
        try:
            step(party)
        except Exception as error:  # noqa: BLE001 - the boundary where an exception becomes a fault
            faults[party] = error
    return faults


def leave(
    parties: Collection[Party], reason: str, *, stall_timeout: float
) -> dict[Party, Exception]:
    """Make each of `parties` leave COPY; returns the faults by party."""
    faults = each(parties, lambda party: party.abort(reason))
    return faults | drive(set(parties) - faults.keys(), Limits(stall_timeout))
