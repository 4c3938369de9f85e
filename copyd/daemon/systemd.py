"""Notifications to systemd: sd_notify(3)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Notifier:
    """``address`` of systemd's socket, None outside systemd; ``watchdog``: its timeout, in seconds."""

    address: str | None = None
    watchdog: float | None = None

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Read and remove the variables of `environ`: no child process may notify systemd."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        whose = environ.pop("WATCHDOG_PID", str(os.getpid()))
        is_ours = whose == str(os.getpid()) and microseconds.isdecimal()
        return cls(address or None, int(microseconds) / MICRO if is_ours else None)

    def tell(self, **facts: str | int) -> None:
        """Send facts, such as READY=1; errors are ignored."""
        if self.address is None:
            return
        # A leading @ stands for the NUL of an abstract address.
        place = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        message = "\n".join(f"{key}={value}" for key, value in facts.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)  # a full socket must not block the loop
            sender.sendto(message.encode(), place)
