"""The type of durations on the command line."""

from __future__ import annotations

import math
from typing import Any

import click

LONGEST = 1_000_000.0  # eleven days; poll() takes at most 2**31 milliseconds


class Seconds(click.FloatRange):
    """Seconds above zero, finite."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0, max=LONGEST, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):  # passes every comparison of the range
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds
