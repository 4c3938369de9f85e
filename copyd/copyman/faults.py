"""What can go wrong while rows are copied, under the names of py-postgresql's copyman."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copyd.errors import CopydError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from copyd.copyman.manager import CopyManager
    from copyd.copyman.ports import Receiver


class Fault(CopydError):
    """A Producer or a Receiver raised while the copy was under way; the copy may go on."""

    def __init__(self, manager: CopyManager, message: str) -> None:
        super().__init__(message)
        self.manager = manager


class ProducerFault(Fault):
    """The Producer raised; the original exception is ``__cause__`` and ``__context__``."""


class ReceiverFault(Fault):
    """Receivers raised in one cycle; they are out of ``manager.receivers`` now.

    ``faults`` maps each of them to what it raised: a `TimeoutError` means that it stalled.
    """

    def __init__(self, manager: CopyManager, faults: Mapping[Receiver, BaseException]) -> None:
        reasons = "; ".join(f"{receiver!r}: {fault}" for receiver, fault in faults.items())
        super().__init__(manager, f"{len(faults)} receiver(s) faulted: {reasons}")
        self.faults = dict(faults)


class CannotReconcile(CopydError):
    """The receiver has missed data or lost its connection; it can only be fed in a new pass."""


class OutcomeUnknown(CopydError, TimeoutError):
    """A receiver was given all data, but its verdict did not come in time: it was closed.

    Outside a transaction its rows may be there or not. In a transaction they are not.
    """


class CopyFail(CopydError):
    """The copy was not completed; no receiver in a transaction keeps anything of it.

    ``reason``: what ended it. ``receiver_faults``: the exceptions of Receivers that could not be
    started or ended in good order, None if there were none. ``producer_fault``: the exception of
    the Producer, None if it raised none.
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
