"""The COPY format of a scan, and why it is that one; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copyd.transfers.transfer import Format


class ChosenFormat(NamedTuple):
    """The format, and the reason for it."""

    name: str
    reason: str


def choose_format(
    wanted: Format,
    types: Sequence[str],
    refusals: Sequence[str | None],
    *,
    has_rejects: bool = False,
) -> ChosenFormat:
    """Choose between text and binary for columns of these `types`.

    `refusals`: for each destination, why binary cannot be used there. `has_rejects`: a reject is a
    line of text. Text is the rule, because it is relayed without looking at rows and every type
    reads it. It writes bytea with two digits a byte: there binary pays.
    """
    if wanted != "auto":
        return ChosenFormat(wanted, "as configured")
    if has_rejects:
        return ChosenFormat("text", "rejects are lines of text")
    if "bytea" not in types:
        return ChosenFormat("text", "relayed without looking at rows")
    for refusal in refusals:
        if refusal is not None:
            return ChosenFormat("text", refusal)
    return ChosenFormat("binary", "bytea is half as long as in text")
