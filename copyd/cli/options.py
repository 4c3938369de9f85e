"""A duration on the command line: seconds, positive and finite."""

from __future__ import annotations

import math
from typing import Any

import click

LONGEST = 1_000_000.0  # more than any wait makes sense, less than what poll takes


class Seconds(click.FloatRange):
    """Seconds above zero; refuses what no clock can wait for."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0, max=LONGEST, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds
