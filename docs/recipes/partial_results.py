import trio

from trio_conman import ConMan, Failure, StopReason, Success

SECONDS = {"flights": 0.3, "hotels": 0.8, "trains": 5.0, "cars": 0.4, "weather": 0.05}
TOO_LATE = {StopReason.TASK_TIMEOUT, StopReason.MANAGER_TIMEOUT}


async def ask(supplier: str) -> str:
    await trio.sleep(SECONDS[supplier])  # stands for a request
    return f"offers of {supplier}"


async def offers(suppliers: list[str], seconds: float) -> tuple[list[str], list[str]]:
    """What can be had in that time, and who took too long."""
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(
            nursery, limit=3, task_timeout=0.6, timeout=seconds
        ) as cm:
            for supplier in suppliers:
                # Accepts them all at once: each has an outcome when the time is over.
                cm.start_soon(ask, supplier, name=supplier)
    answers, late = [], []
    for outcome in cm.outcomes():
        match outcome:
            case Success(value=answer):
                answers.append(answer)
            case Failure(reason=reason) if reason in TOO_LATE:
                late.append(outcome.name)
            case Failure(error=error):
                raise error
    return answers, late


async def main() -> None:
    for seconds in (0.35, 2.0):
        start = trio.current_time()
        answers, late = await offers(list(SECONDS), seconds)
        print(f"{trio.current_time() - start:.2f} s: {', '.join(answers)}")
        print(f"        too late: {', '.join(sorted(late))}")


trio.run(main)
