import signal

import trio

from trio_conman import ConMan, Failure, Success


async def work(number: int) -> str:
    if number == 4:
        signal.raise_signal(signal.SIGTERM)  # stands for whoever stops the service
    await trio.sleep(30 if number == 1 else 0.2)  # stands for a job
    return f"job {number}"


async def obey_signals(cm: ConMan[str], grace: float) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        await anext(signals)
        print("no more jobs")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cm.shutdown, grace)
            await anext(signals)  # a second one: now
            cm.cancel("told twice")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, name="jobs") as cm:
            nursery.start_soon(obey_signals, cm, 0.5)
            for number in range(1, 100):
                await cm.run(work, number, name=f"job {number}")
        # Here the last job has ended; a shutdown has ended the loop before.
        nursery.cancel_scope.cancel()  # nobody has to wait for signals any more

    done = {outcome.name for outcome in cm.outcomes() if isinstance(outcome, Success)}
    for outcome in cm.outcomes():
        if isinstance(outcome, Failure):
            print(f"{outcome.name}: {outcome.reason.value}: {outcome.error}")
    print(f"done: {sorted(done)}, not done: {99 - len(done)}")


trio.run(main)
