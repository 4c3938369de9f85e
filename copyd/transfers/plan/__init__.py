"""``copyd plan``: the statements of a run, in order, before it is run."""

from copyd.transfers.plan.plan import Section, plan

__all__ = [
    "Section",
    "plan",
]
