"""Which refusals were needed to learn of a limit: those of what was under way when it was met."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import attrs


@attrs.frozen
class Refusal:
    """A request that was refused. In seconds, by one clock."""

    asked: float
    """When it was made."""
    until: float
    """The end of the wait that its answer told, from when that came in."""


def waves(refusals: Iterable[Refusal]) -> list[int]:
    """How many refusals each window of the server has cost.

    Args:
        refusals: as their answers came in. A request that was made before the end of a wait that an earlier
            answer told belongs to the window of that one: it was under way, or did not heed it.
    """
    sizes: list[int] = []
    end = -inf
    for refusal in refusals:
        if refusal.asked >= end:
            sizes.append(0)
        sizes[-1] += 1
        end = max(end, refusal.until)
    return sizes
