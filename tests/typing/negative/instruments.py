"""What is refused of instruments."""

import trio

from trio_conman import ConMan, Instrument, LoggingInstrument
from trio_conman.progress import RichProgress
from trio_conman.testing import FixedJitter, FlakyTask


class Own(Instrument):
    def attempt_started(self, handle: str, attempt: int) -> None:  # error
        print(handle, attempt)


async def opening(nursery: trio.Nursery) -> None:
    ConMan[int].open(nursery, instruments=LoggingInstrument())  # error
    ConMan[int].open(nursery, instruments=[LoggingInstrument])  # error
    ConMan[int].open(nursery, instruments=None)  # error
    RichProgress("40")  # error
    RichProgress(40, "pages")  # error
    FixedJitter("1")  # error
    FlakyTask[str](KeyboardInterrupt())  # error
