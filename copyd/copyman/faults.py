"""The errors of a copy, under the names of py-postgresql's copyman."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copyd.copyman.manager import CopyManager
    from copyd.copyman.ports import Receiver


class Fault(CopydError):
    """A Producer or a Receiver raised during the copy; the copy may continue."""

    def __init__(self, manager: CopyManager, message: str) -> None:
        super().__init__(message)
        self.manager = manager


class ProducerFault(Fault):
    """The Producer raised; its exception is ``__cause__`` and ``__context__``."""


class ReceiverFault(Fault):
    """Receivers raised in a cycle and were removed from ``manager.receivers``.

    ``faults``: each receiver's exception; a `TimeoutError` means a stall.
    """

    def __init__(self, manager: CopyManager, faults: Mapping[Receiver, BaseException]) -> None:
        reasons = "; ".join(f"{receiver!r}: {fault}" for receiver, fault in faults.items())
        super().__init__(manager, f"{len(faults)} receiver(s) faulted: {reasons}")
        self.faults = dict(faults)


class CannotReconcile(CopydError):
    """The receiver has missed data or lost its connection; it needs a new pass."""


class OutcomeUnknown(CopydError, TimeoutError):
    """A receiver was closed because its verdict on the complete data did not arrive in time.

    In autocommit the server may or may not have stored the rows. In a transaction it has not.
    """


class CopyFail(CopydError):
    """The copy was not completed; no receiver in a transaction keeps any of its rows.

    ``reason``: why the copy ended. ``receiver_faults``: the exceptions of Receivers at the start or
    the end, or None. ``producer_fault``: the exception of the Producer, or None.
    """

    def __init__(
        self,
        manager: CopyManager,
        reason: str = "copy aborted",
        *,
        receiver_faults: Mapping[Receiver, BaseException] | None = None,
        producer_fault: BaseException | None = None,
    ) -> None:
        super().__init__(reason)
        self.manager = manager
        self.reason = reason
        self.receiver_faults = dict(receiver_faults) if receiver_faults else None
        self.producer_fault = producer_fault
