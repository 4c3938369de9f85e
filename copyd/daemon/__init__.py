"""The daemon: runs transfers on schedule and keeps managed clusters, until a signal stops it."""

from copyd.daemon.arenas import limit_arenas
from copyd.daemon.control import Control
from copyd.daemon.control_requests import ControlRequests
from copyd.daemon.environment import Environment
from copyd.daemon.folders import locked, prepare
from copyd.daemon.pauses import Pauses
from copyd.daemon.schedule import Instant
from copyd.daemon.signals import handling
from copyd.daemon.supervisor import Supervisor
from copyd.daemon.systemd import Notifier
from copyd.daemon.task import Remembered
