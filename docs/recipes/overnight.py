import itertools
import math
import signal
import tempfile
from collections import Counter
from pathlib import Path

import trio

from trio_conman import ConMan, Failure, RateLimiter, RetriableError, RetryConfig
from trio_conman.journal import open_journal
from trio_conman.signals import shutdown_on_signal

QUESTIONS = [f"question {number}" for number in range(30)]
calls: list[str] = []
answers = itertools.count(1)
enough = trio.Event()
hangs: set[str] = set()


async def ask(question: str) -> str:
    calls.append(question)
    if question == "question 5" and calls.count(question) == 1:
        raise RetriableError(OSError("busy"))
    await trio.sleep(math.inf if question in hangs else 0.1)  # stands for a paid call
    if next(answers) == 8:
        enough.set()
    return f"answer to {question}"


def report(cm: ConMan[str]) -> None:
    now = cm.statistics()
    answered = (
        f"{now.succeeded} of {len(QUESTIONS)} answered, {now.recalled} of them before"
    )
    print(f"{answered}; {len(calls)} calls")
    failures = [outcome for outcome in cm.outcomes() if isinstance(outcome, Failure)]
    for reason, number in Counter(failure.reason for failure in failures).items():
        print(f"  {number} failed: {reason.value}")


async def main(file: Path, timeout: float) -> None:
    calls.clear()
    retry = RetryConfig.exponential(initial_delay=0.01)
    async with open_journal(file) as journal, trio.open_nursery() as nursery:
        known = journal.section("answers", version="model 1")
        async with ConMan[str].open(
            nursery, 4, rate=RateLimiter(20), retry=retry, journal=known, timeout=timeout
        ) as cm:
            async with shutdown_on_signal(cm, grace=10):  # what is underway is paid for
                for question in QUESTIONS:
                    await cm.run(ask, question)
        report(cm)  # before the journal tells of a disk that is full


async def interrupted(file: Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(main, file, math.inf)
        await enough.wait()
        signal.raise_signal(signal.SIGINT)  # stands for a person


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "answers.journal")
    trio.run(interrupted, file)
    hangs.update(QUESTIONS[20:])
    trio.run(main, file, 2)  # seconds: as long as the night is
    hangs.clear()
    trio.run(main, file, math.inf)
