"""What a block knows of its open maps."""

from __future__ import annotations

from typing import Protocol

import trio


class Map(Protocol):
    """What an open map is asked and told."""

    @property
    def is_coming(self) -> bool:
        """Whether it has asked for a slot, or has one and no item yet."""
        ...

    def holds_up(self, task: trio.lowlevel.Task) -> bool:
        """Whether that trio task waits for others to take what is left, when it waits for all tasks."""
        ...

    def refuse(self) -> None:
        """Nothing new is accepted any more."""
        ...

    def resized(self) -> None:
        """The limit has changed: there may be more room than before."""
        ...
