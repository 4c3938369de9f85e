"""A single try at a destination: `actions` decides each phase, `attempt` runs them in order."""

from copyd.transfers.destination.actions import Action, Block, claim, decide
from copyd.transfers.destination.attempt import Attempt
from copyd.transfers.destination.pending_rejects import last_successes, prepare, wind_up
from copyd.transfers.destination.preparation import (
    Prepared,
    find_deferrable,
    find_delete_triggers,
    look,
)
from copyd.transfers.destination.refusal import Refusal, refusing
from copyd.transfers.destination.session import Path, Session
from copyd.transfers.destination.table_load import TableLoad
from copyd.transfers.destination.targets import Intent, does_without_key, look_up_there
