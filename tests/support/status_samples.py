"""What a daemon would publish, and the events of a run, for those who observe them."""

from __future__ import annotations

from copyd import events
from copyd.status import ClusterStatus, DestinationStatus, ReloadStatus, Status, TransferStatus

NOW = 1_800_000_000.0


def destination(name: str, state: str = "unknown", **more: object) -> DestinationStatus:
    return DestinationStatus(name, state, **more)  # type: ignore[arg-type]


def transfer(name: str, *destinations: DestinationStatus, **more: object) -> TransferStatus:
    state = str(more.pop("state", "idle"))
    there = destinations or (destination("eu"), destination("us"))
    return TransferStatus(name, state, there, **more)  # type: ignore[arg-type]


def status(
    *transfers: TransferStatus,
    state: str = "ready",
    beat: float = 0.0,
    clusters: tuple[ClusterStatus, ...] = (),
    reload: ReloadStatus | None = None,
) -> Status:
    return Status(
        state=state,
        started_at=NOW,
        beat=beat,
        workers=4,
        running=sum(each.state == "running" for each in transfers),
        clusters=clusters,
        transfers=transfers,
        reload=reload or ReloadStatus(is_successful=True, succeeded_at=NOW),
    )


def kinds() -> list[type[events.Event]]:
    """All kinds of events."""
    return [
        each
        for each in vars(events).values()
        if isinstance(each, type) and issubclass(each, events.Event) and each is not events.Event
    ]


def started(run: str = "run-1", *, transfer: str = "orders") -> events.RunStarted:
    return events.RunStarted(transfer, run, ("eu", "us"), 1000)


def ended(name: str, verdict: str = "succeeded", **more: object) -> events.DestinationEnded:
    counted = {"rows": 10, "size": 100}
    counted |= {key: int(str(more.pop(key))) for key in ("rows", "rejected") if key in more}
    fields = {"counts": events.Counts(**counted), "cause": None, **more}
    return events.DestinationEnded(name, verdict, **fields)  # type: ignore[arg-type]


def a_run(run: str = "run-1", *, transfer: str = "orders") -> list[events.Event]:
    """One in which us is dropped, comes back, and all ends well."""
    both = frozenset({"eu", "us"})
    return [
        started(run, transfer=transfer),
        events.SnapshotTaken(NOW, NOW - 1),
        events.PassStarted(1, ("eu", "us")),
        events.DataRelayed(both, 6, 60),
        events.DestinationDropped("us", "the connection was lost", will_return=True, kind="connection"),
        events.DataRelayed(frozenset({"eu"}), 4, 40),
        ended("eu", data_timestamp=NOW - 1),
        events.DestinationReintroduced("us"),
        events.PassStarted(2, ("us",)),
        events.DestinationReconciled("us", 0.5),
        events.DataRelayed(frozenset({"us"}), 10, 100),
        ended("us", rejected=2, data_timestamp=NOW - 1),
        events.RunEnded("succeeded", 3.0),
    ]  # fmt: skip
