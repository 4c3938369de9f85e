"""One destination in one try: from what is found there to COMMIT or to nothing."""

from copyd.transfers.destination.attempt import SKIP, Attempt
from copyd.transfers.destination.horizon import need_of, refusals, require_ours
from copyd.transfers.destination.pending_rejects import last_successes, prepare, wind_up
from copyd.transfers.destination.preparation import (
    DEFER,
    does_without_key,
    find_targets,
    is_locked,
    look_up_there,
    misfits,
    name_of,
    order_of,
    parts_of,
    target_of,
    use_of,
)

__all__ = [
    "DEFER",
    "SKIP",
    "Attempt",
    "does_without_key",
    "find_targets",
    "is_locked",
    "last_successes",
    "look_up_there",
    "misfits",
    "name_of",
    "need_of",
    "order_of",
    "parts_of",
    "prepare",
    "refusals",
    "require_ours",
    "target_of",
    "use_of",
    "wind_up",
]
