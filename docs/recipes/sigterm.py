import signal

import trio

from trio_conman import ConMan
from trio_conman.signals import shutdown_on_signal


async def work(number: int) -> str:
    if number == 4:
        signal.raise_signal(signal.SIGTERM)  # stands for whoever stops the service
    await trio.sleep(30 if number == 1 else 0.2)  # stands for a job
    return f"job {number}"


async def main() -> int:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=2, name="jobs") as cm:
            async with shutdown_on_signal(cm, grace=0.5) as came:
                for number in range(1, 100):
                    await cm.run(work, number, name=f"job {number}")

    for error in cm.errors():
        print(error)
    done = sorted(cm.outputs())
    print(f"{[each.name for each in came]}: done: {done}, not done: {99 - len(done)}")
    return 128 + came[0] if came else 0


print("status", trio.run(main))  # in your program: sys.exit(trio.run(main))
