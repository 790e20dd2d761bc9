#!/usr/bin/env bash
# pyrate-limiter 4.5.1: while one task waits for its turn, `blocking=False` waits too, and so do all other keys.
#
# `try_acquire_async` holds one lock of the limiter for as long as it waits. A second task that asks with
# `blocking=False`, which is to answer at once, gets its False only when the first has had its turn. And where each key
# has a bucket of its own, whoever asks for a free key waits for the one in front who asked for a full one: one slow key
# stops them all. In threads, with `try_acquire`, neither happens. A limit of one in 2 s here, and the second
# question 0.2 s after the first.
#
# Seen:
#   tasks, not blocking: the first True, then the second False
#   tasks, another key: the first True, then the second True
#   threads, not blocking: the second False, then the first True
#   threads, another key: the second True, then the first True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyrate-limiter==4.5.1
cat >main.py <<'PY'
import asyncio
import threading
import time

from pyrate_limiter import BucketFactory, Duration, InMemoryBucket, Limiter, MonotonicClock, Rate, RateItem


class ByKey(BucketFactory):
    def __init__(self) -> None:
        self.clock = MonotonicClock()
        self.buckets = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        return RateItem(name, self.clock.now(), weight=weight)

    def get(self, item: RateItem) -> InMemoryBucket:
        if item.name not in self.buckets:
            self.buckets[item.name] = self.create(InMemoryBucket, [Rate(1, Duration.SECOND * 2)])
        return self.buckets[item.name]


QUESTIONS = {"not blocking": {"name": "a", "blocking": False}, "another key": {"name": "b"}}


async def in_tasks(question: dict[str, object]) -> list[str]:
    limiter, answers = Limiter(ByKey()), []

    async def ask(who: str, **question: object) -> None:
        answers.append(f"the {who} {await limiter.try_acquire_async(**question)}")

    await limiter.try_acquire_async("a")
    first = asyncio.create_task(ask("first", name="a"))
    await asyncio.sleep(0.2)
    await asyncio.gather(first, ask("second", **question))
    return answers


def in_threads(question: dict[str, object]) -> list[str]:
    limiter, answers = Limiter(ByKey()), []

    def ask(who: str, **question: object) -> None:
        answers.append(f"the {who} {limiter.try_acquire(**question)}")

    limiter.try_acquire("a")
    first = threading.Thread(target=ask, args=["first"], kwargs={"name": "a"})
    first.start()
    time.sleep(0.2)
    ask("second", **question)
    first.join()
    return answers


for kind, question in QUESTIONS.items():
    print(f"tasks, {kind}: {', then '.join(asyncio.run(in_tasks(question)))}")
for kind, question in QUESTIONS.items():
    print(f"threads, {kind}: {', then '.join(in_threads(question))}")
PY
seen=$(venv/bin/python main.py)
echo "pyrate-limiter 4.5.1"
echo "$seen"
[ "$seen" = "tasks, not blocking: the first True, then the second False
tasks, another key: the first True, then the second True
threads, not blocking: the second False, then the first True
threads, another key: the second True, then the first True" ]
