import itertools
import signal

import trio

from trio_conman import ConMan, Failure, Success


async def work(number: int) -> str:
    if number == 4:
        signal.raise_signal(signal.SIGTERM)  # stands for whoever stops the service
    await trio.sleep(30 if number == 1 else 0.2)  # stands for a job
    return f"job {number}"


async def shut_down_on_sigterm(cm: ConMan[str], grace: float) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        await anext(signals)
        print("no more jobs")
        await cm.shutdown(grace)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, name="jobs") as cm:
            nursery.start_soon(shut_down_on_sigterm, cm, 0.5)
            for number in itertools.count(1):
                await cm.run(work, number, name=f"job {number}")
        # A shutdown ends the loop: the block is left when its last job has ended.

    for outcome in cm.outcomes():
        match outcome:
            case Success(value=value):
                print(f"{value} is done")
            case Failure(error=error, reason=reason):
                print(f"{outcome.name}: {reason.value}: {error}")


trio.run(main)
