"""``copyd check --connect``: everything that a run would refuse, found before one begins."""

from copyd.transfers.check.check import inspect
from copyd.transfers.check.findings import Finding
