"""What random programs are made of: managers, and the steps and tasks of each. All but `Entry` is data."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from trio_conman import RetryConfig, StopReason, TaskHandle

if TYPE_CHECKING:
    from .machine_cast import Cast


class SourceError(Exception):
    """What some sources raise."""


class BodyError(Exception):
    """What some bodies raise."""


@attrs.frozen
class Act:
    """One attempt: it sleeps, does something to its manager, and ends."""

    seconds: float = 1.0
    inside: str = ""
    ending: str = "return"
    config: RetryConfig | None = None


@attrs.frozen
class Plan:
    """A task: its attempts, after which it succeeds, and what it does when it is cancelled."""

    acts: tuple[Act, ...] = (Act(),)
    manner: str = "plain"
    unwanted: bool = False  # cancelled as soon as its submission is told
    key: int = 0  # what it counts for, where there are limits by key

    def act(self, attempt: int) -> Act:
        return self.acts[attempt] if attempt < len(self.acts) else Act()

    def blocks(self) -> bool:
        return any(act.inside in {"run", "map"} for act in self.acts)


@attrs.frozen
class Options:
    """The options of a task, None where its manager's hold."""

    retry: RetryConfig | None = None
    attempt_timeout: float | None = None
    task_timeout: float | None = None
    priority: int = 0


@attrs.frozen
class Source:
    """What a map draws from: a list, a generator or an async one; it may raise at its end."""

    kind: str
    plans: tuple[Plan, ...]
    pause: float = 0.0
    raises: bool = False


@attrs.frozen
class Manager:
    """How to open a manager. Its outcomes are kept, or sent through a channel with that buffer."""

    limit: int | float = 2
    timeout: float = math.inf
    options: Options = Options()
    max_errors: int | None = None
    send_to: float | None = None
    pace: float = 0.0  # of the reader, in seconds for each outcome
    reads: float = math.inf  # how many outcomes until the reader goes away
    rate: tuple[float, int] | None = None  # attempts a second, and its burst
    tokens: float | None = None  # of a retry budget
    broken: str = ""  # a hook of an instrument that raises
    adapts: bool = False  # the limit, unless it is shared or infinite
    keyed: bool = False  # has the program's limits by key


@attrs.define
class Wandering:
    """The controller of an adaptive limit that is as changeable as can be."""

    limit: float
    random: random.Random
    minimum: int = 1
    maximum: int = 5

    def restart(self) -> None:
        pass

    def assign(self, limit: float) -> None:
        self.limit = limit

    def ended(self, began: float, now: float, in_use: int, *, overloaded: bool) -> None:
        self.limit = self.random.uniform(1, 5.5)


Deed: TypeAlias = Callable[["Cast"], Awaitable[Any] | None]


@attrs.frozen
class Step:
    """After `delay` seconds the body does a deed, or has another task do it, with a limited `patience`."""

    deed: Deed
    delay: float = 0.0
    settle: bool = False
    aside: bool = False
    patience: float = math.inf

    async def do(self, cast: Cast) -> None:
        result = self.deed(cast)
        if result is not None:
            await result


@attrs.define(eq=False)
class Entry:
    """One task that was submitted, or an item of a map."""

    cast: Cast = attrs.field(repr=False)
    plan: Plan
    options: Options
    submitted: float
    item: int | None = None
    handle: TaskHandle[Any] | None = None
    told: TaskHandle[Any] | None = attrs.field(default=None, repr=False)  # its handle, an item's too
    since: float = attrs.field(default=attrs.Factory(lambda self: self.submitted, takes_self=True))
    reordered: bool = False  # was given another priority
    refused: bool = False
    cancelled: bool = False
    interrupted: bool = False  # met a Cancelled
    waits: bool = False  # submitted by run()
    holds: bool = False  # keeps its slot while it backs off
    attempts: int = 0
    scheduled: int = 0  # retries
    # When its first permit was due, as far as the attempts before tell.
    due: float = -math.inf
    latest: float = math.inf  # when its next attempt may start, if that waits for a permit
    # When it was back from a backoff without a slot, by the number of the attempt that follows.
    lent: dict[int, float] = attrs.field(factory=dict, repr=False)
    without_slot: bool = False
    executing: bool = False
    # What its submitter has set in its context.
    mark: object = attrs.field(factory=object, repr=False)
    returned: bool = False
    starts: list[float] = attrs.field(factory=list, repr=False)
    # When its first attempt started: the time, and the pass of trio's loop.
    started: tuple[float, int] | None = None

    def rank(self) -> tuple[int, float]:
        """Where it stands among those who wait for the same: a lower one goes first."""
        return -self.options.priority, self.since

    def predict(self) -> tuple[StopReason | None, int]:
        """How it ends when nobody interferes, None for a success, and after how many retries."""
        retry = self.options.retry
        for retries in range(100):
            act = self.plan.act(retries)
            config, spent = retry or RetryConfig(), StopReason.RETRIES_EXHAUSTED
            if act.seconds > (self.options.attempt_timeout or math.inf):
                spent = StopReason.ATTEMPT_TIMEOUT
                if retry is None:
                    return spent, retries
            elif act.ending == "return":
                return None, retries
            elif act.ending == "mixed" or (act.ending == "error" and config.retry_on is None):
                return StopReason.ERROR, retries
            elif act.ending != "error":
                config = act.config or config
            if retries >= config.max_attempts:
                return spent, retries
        raise AssertionError(self.plan)

    @property
    def retry_is_due(self) -> bool:
        """Whether a retry was scheduled and is not made yet."""
        return self.scheduled >= max(1, self.attempts)

    def configs(self) -> list[RetryConfig]:
        return [each for each in (self.options.retry, *(act.config for act in self.plan.acts)) if each]
