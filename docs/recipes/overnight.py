import math
import signal
import tempfile
from collections import Counter
from pathlib import Path

import trio

from trio_conman import ConMan, Failure, RateLimiter, RetriableError
from trio_conman.journal import open_journal

QUESTIONS = [f"question {number}" for number in range(30)]
calls: list[str] = []


async def ask(question: str) -> str:
    calls.append(question)
    if question == "question 5" and calls.count(question) == 1:
        raise RetriableError(OSError("busy"))
    await trio.sleep(0.2)  # stands for a paid call
    return f"answer to {question}"


async def obey_ctrl_c(cm: ConMan[str]) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        await anext(signals)
        await cm.shutdown(grace=10)  # what is underway is paid for


def report(cm: ConMan[str]) -> None:
    now = cm.statistics()
    print(f"{now.succeeded} of {len(QUESTIONS)} answered, {now.recalled} of them before; {len(calls)} calls")
    failures = [outcome for outcome in cm.outcomes() if isinstance(outcome, Failure)]
    for reason, number in Counter(failure.reason for failure in failures).items():
        print(f"  {number} failed: {reason.value}")


async def main(file: Path, timeout: float) -> None:
    calls.clear()
    async with open_journal(file) as journal, trio.open_nursery() as nursery:
        answers = journal.section("answers", version="model 1")
        rate = RateLimiter(10)
        async with ConMan[str].open(nursery, 4, rate=rate, journal=answers, timeout=timeout) as cm:
            nursery.start_soon(obey_ctrl_c, cm)
            for question in QUESTIONS:
                await cm.run(ask, question)
        nursery.cancel_scope.cancel()  # nobody has to wait for Ctrl-C any more
    report(cm)


async def interrupted(file: Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(main, file, math.inf)
        await trio.sleep(0.95)
        signal.raise_signal(signal.SIGINT)  # stands for a person


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "answers.journal")
    trio.run(interrupted, file)
    trio.run(main, file, 0.95)  # seconds: as long as the night is
    trio.run(main, file, math.inf)
