#!/usr/bin/env bash
# taskiq 0.13.0: with `use_delay_exponent`, five retries take 75 s or 765 s, by who sends them, and no delay doubles.
#
# SmartRetryMiddleware multiplies the delay by the number of the retry. Where the broker sends the task again, the delay
# goes along as a label, and this label is what the next delay is made of: 5 s, twice that, three times that, a factorial.
# Where a schedule source does, the label stays out, and it is 5 s, 10 s, 15 s. Nothing is exponential. For the same
# reason the jitter of each retry stays in all that follow, with a broker. And `max_retries` is the number of tries: with
# 1 nothing is tried again, and by the default of 3 there are two retries. Nothing waits here: the tasks are sent at
# once, the delays are written down, and each jitter is 0.5 s. Who wants it otherwise overrides `make_delay`. The script
# fails when it is not so any more.
#
# Seen, with `max_retries=6` where nothing else is said, and a longest delay of an hour:
#   exponent, sent by a broker: 5, 10, 30, 120, 600 s
#   exponent, sent by a schedule source: 5, 10, 15, 20, 25 s
#   jitter, sent by a broker: 5.5, 6, 6.5, 7, 7.5 s
#   jitter, sent by a schedule source: 5.5, 5.5, 5.5, 5.5, 5.5 s
#   the default of 3, sent by a broker: 5, 5 s
#   max_retries=1, sent by a broker: none
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check taskiq==0.13.0
cat >main.py <<'PY'
import asyncio
import logging
from importlib.metadata import version
from unittest.mock import patch

from taskiq import (
    BrokerMessage,
    InMemoryBroker,
    ScheduledTask,
    ScheduleSource,
    SmartRetryMiddleware,
    TaskiqMessage,
    TaskiqScheduler,
)

BROKER, SOURCE = "a broker", "a schedule source"
EXPONENT = {"default_retry_count": 6, "use_delay_exponent": True, "max_delay_exponent": 3600}
JITTER = {"default_retry_count": 6, "use_jitter": True}


class Broker(InMemoryBroker):
    """Keeps the messages in place of running them in the background."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[BrokerMessage] = []

    async def kick(self, message: BrokerMessage) -> None:
        self.messages.append(message)


class Source(ScheduleSource):
    """Has each task sent at once."""

    scheduler: TaskiqScheduler

    async def get_schedules(self) -> list[ScheduledTask]:
        return []

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        await self.scheduler.on_ready(self, schedule)


class Told(SmartRetryMiddleware):
    def make_delay(self, message: TaskiqMessage, retries: int) -> float:
        delay = super().make_delay(message, retries)
        delays.append(f"{delay:g}")
        return delay


async def tell(name: str, sender: str, options: dict[str, object]) -> None:
    delays.clear()
    source = Source() if sender == SOURCE else None
    broker = Broker()
    broker.add_middlewares(Told(default_retry_label=True, schedule_source=source, **options))
    if source is not None:
        source.scheduler = TaskiqScheduler(broker, [source])

    @broker.task(task_name="ask")
    async def ask() -> None:
        raise OSError("down")

    await broker.startup()
    await ask.kiq()
    while broker.messages:
        await broker.receiver.callback(broker.messages.pop().message)
    await broker.shutdown()
    print(f"{name}, sent by {sender}: {', '.join(delays) + ' s' if delays else 'none'}")


async def main() -> None:
    with patch("random.random", lambda: 0.5):
        for sender in BROKER, SOURCE:
            await tell("exponent", sender, EXPONENT)
        for sender in BROKER, SOURCE:
            await tell("jitter", sender, JITTER)
        await tell("the default of 3", BROKER, {})
        await tell("max_retries=1", BROKER, {"default_retry_count": 1})


logging.disable()
delays: list[str] = []
print(f"taskiq {version('taskiq')}")
asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "taskiq 0.13.0
exponent, sent by a broker: 5, 10, 30, 120, 600 s
exponent, sent by a schedule source: 5, 10, 15, 20, 25 s
jitter, sent by a broker: 5.5, 6, 6.5, 7, 7.5 s
jitter, sent by a schedule source: 5.5, 5.5, 5.5, 5.5, 5.5 s
the default of 3, sent by a broker: 5, 5 s
max_retries=1, sent by a broker: none" ]
