"""Terminal output: progress, report, findings, rejects, status."""

from copyd.cli.views import findings, rejects, report
from copyd.cli.views.progress import RunProgress
from copyd.cli.views.report import Document
from copyd.cli.views.status import runs_table, screen
