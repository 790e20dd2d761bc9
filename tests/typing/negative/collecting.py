"""What is refused of batches, reports, and signals."""

from trio_conman import ConMan
from trio_conman.batches import in_batches
from trio_conman.reports import Tally, summarize
from trio_conman.signals import shutdown_on_signal


async def length(text: str) -> int:
    return len(text)


async def batches(cm: ConMan[str]) -> None:
    async with cm.map(length, ["a"]) as outcomes:
        in_batches(outcomes)  # error
        in_batches(outcomes, "50")  # error
        in_batches(outcomes, 50, 1)  # error
        in_batches(cm.outcomes(), 50)  # error
        async for _ in in_batches(outcomes, 50):  # error
            pass
        async with in_batches(outcomes, 50) as batches:
            one: list[str] = await anext(batches)  # error
            print(one)


async def reports(cm: ConMan[str]) -> None:
    summarize(cm.outputs())  # error
    summarize(cm.outcomes(), 100)  # error
    Tally(100)  # error
    Tally().add(cm.outcomes())  # error


async def signals(cm: ConMan[str]) -> None:
    await cm.shutdown(3, "drop")  # error
    await cm.shutdown(queued="cancel")  # error
    shutdown_on_signal()  # error
    shutdown_on_signal(cm, 3)  # error
    shutdown_on_signal(cm, grace="3")  # error
    shutdown_on_signal(cm, queued="cancel")  # error
    shutdown_on_signal(cm, signals="SIGTERM")  # error
    with shutdown_on_signal(cm):  # error
        pass
