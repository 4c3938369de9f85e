"""``copyd check --connect``: reports every refusal of a run without starting a run."""

from copyd.transfers.check.check import inspect
from copyd.transfers.check.findings import Finding
