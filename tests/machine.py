"""The world in which a random program runs once, watched, in virtual time.

A program is data: its managers, and for each of them a list of steps, which its body takes one after the
other. `World.run` runs it, and compares what happens with what must: after each step (`Witness.look`), and at
the end (`Witness.close`). What it finds is collected in `Stage.faults`, for a task that raised an
AssertionError would only hand its manager one more failure.
"""

from __future__ import annotations

import random

import attrs
import trio
import trio._core._run
from trio.testing import MockClock

from trio_conman import KeyedLimit

from .machine_cast import Cast
from .machine_keys import KeyMeter
from .machine_witness import Stage

# Virtual seconds, and steps of trio tasks, that no program comes near unless it hangs or runs in circles.
FAR = 2000
MANY = 50_000


class Hang(BaseException):
    """Raised into trio's own loop, which is the only way out when shielded tasks wait for ever."""


@attrs.define(eq=False)
class World(Stage, trio.abc.Instrument):
    """Runs one program once."""

    task_steps: int = attrs.field(default=0, init=False)
    # Ctrl-C comes with that step of a trio task.
    interrupt_at: int | None = None

    def after_io_wait(self, timeout: float) -> None:
        self.passes += 1

    def before_io_wait(self, timeout: float) -> None:
        now = trio.lowlevel.current_statistics()
        if not now.tasks_runnable and now.seconds_to_next_deadline > 0:
            for witness in self.witnesses:
                witness.check_idle_slots()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.task_steps += 1
        if self.task_steps == self.interrupt_at:
            self.interrupt()

    def clock(self) -> MockClock:
        """A clock that ends trio's loop when it goes on for ever."""
        clock = MockClock(autojump_threshold=0)
        time = clock.current_time

        def current_time() -> float:
            if self.task_steps > MANY or self.passes > 10 * MANY or (now := time()) > 2 * FAR:
                raise Hang(f"after {self.task_steps} steps: {self.witnesses}")
            return now

        clock.current_time = current_time  # type: ignore[method-assign]  # MockClock is final
        return clock

    def run(self) -> None:
        # The order of the tasks of each tick is random. Nothing public sets the seed, without which a failure
        # could not be seen again.
        order: random.Random = trio._core._run._r
        state = order.getstate()
        order.seed(self.seed)
        interrupts: list[BaseException] = []
        try:
            trio.run(self._main, clock=self.clock(), instruments=[self])
        except* KeyboardInterrupt as group:
            interrupts += group.exceptions
        finally:
            order.setstate(state)
        if bool(interrupts) != bool(self.interrupts):
            self.faults.append(f"{self.interrupts} times Ctrl-C, and out came {interrupts}")
        for witness in self.witnesses:
            if witness.highest:  # it was opened
                witness.close()
        if self.faults:
            raise AssertionError("\n".join(self.faults))

    async def _main(self) -> None:
        trio.lowlevel.spawn_system_task(self._watch)
        if self.shared is not None:
            self.limiter = trio.CapacityLimiter(self.shared)
        if self.keys:
            limits = dict(enumerate(self.keys))
            self.keyed = KeyedLimit(self.keys[0], key=lambda entry: entry.plan.key, limits=limits)
            self.key_meter = KeyMeter(limits)
        with trio.move_on_after(self.outer):
            async with trio.open_nursery() as self.nursery:
                casts = [Cast(self, *each) for each in zip(self.managers, self.steps, strict=True)]
                self.witnesses += casts
                for cast in casts:
                    self.nursery.start_soon(cast.play)
        if self.shared is not None:
            statistics = self.limiter.statistics()
            if (statistics.borrowed_tokens, statistics.tasks_waiting) != (0, 0):
                self.fault(f"the shared limiter: {statistics}")
        if self.keyed is not None and self.keyed._keys:
            self.fault(f"the limits by key: {self.keyed._keys}")

    async def _watch(self) -> None:
        """Make a hang known: the clock ends it then."""
        await trio.sleep(FAR)
        self.task_steps = MANY + 1
