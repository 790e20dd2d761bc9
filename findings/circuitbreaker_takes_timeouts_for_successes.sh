#!/usr/bin/env bash
# circuitbreaker 2.1.3: a call that is cancelled, as by a timeout around it, counts as a success, and closes the circuit.
#
# It looks at each call that ends: an expected exception is a failure, and all else a success, which sets the count of
# failures to 0, and the state to closed. A CancelledError is no Exception, and so a success. `asyncio.timeout` and
# `wait_for` end a call by just that. So of a service that has hung the breaker thinks well: it never opens, however many
# calls time out, and a single timeout among failures makes it forget them. Nor does it look at when a call began. One
# that began before the circuit opened, and ends well after that, closes it at once, whatever is left of
# `recovery_timeout`; and one that fails then starts that time anew. A timeout inside of the guarded function, such that
# it raises TimeoutError, is a failure as it should be.
#
# Seen, with failure_threshold=3:
#   3 failures: open, failures 3
#   2 failures, a timeout around a call, 2 failures: closed, failures 2
#   100 timeouts around calls: closed, failures 0
#   3 timeouts inside of the function: open, failures 3
#   open, then a call of before ends well: closed, failures 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check circuitbreaker==2.1.3
cat >main.py <<'PY'
import asyncio
from importlib.metadata import version

from circuitbreaker import CircuitBreaker


class Service:
    def __init__(self) -> None:
        self.breaker = CircuitBreaker(failure_threshold=3, recovery_timeout=3600)
        self.ask = self.breaker(self.answer)

    async def answer(self, kind: str, event: asyncio.Event) -> None:
        if kind == "fail":
            raise ConnectionError
        async with asyncio.timeout(0 if kind == "timeout inside" else None):
            await event.wait()

    async def fail(self, times: int, kind: str = "fail") -> None:
        for _ in range(times):
            try:
                await self.ask(kind, asyncio.Event())
            except (ConnectionError, TimeoutError):
                pass

    async def time_out(self, times: int) -> None:
        for _ in range(times):
            try:
                async with asyncio.timeout(0.001):
                    await self.ask("hang", asyncio.Event())
            except TimeoutError:
                pass

    def tell(self, name: str) -> None:
        print(f"{name}: {self.breaker.state}, failures {self.breaker.failure_count}")


async def main() -> None:
    print(f"circuitbreaker {version('circuitbreaker')}, with failure_threshold=3")
    service = Service()
    await service.fail(3)
    service.tell("3 failures")

    service = Service()
    await service.fail(2)
    await service.time_out(1)
    await service.fail(2)
    service.tell("2 failures, a timeout around a call, 2 failures")

    service = Service()
    await service.time_out(100)
    service.tell("100 timeouts around calls")

    service = Service()
    await service.fail(3, "timeout inside")
    service.tell("3 timeouts inside of the function")

    service = Service()
    event = asyncio.Event()
    before = asyncio.create_task(service.ask("hang", event))
    await asyncio.sleep(0)
    await service.fail(3)
    assert service.breaker.state == "open"
    event.set()
    await before
    service.tell("open, then a call of before ends well")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "circuitbreaker 2.1.3, with failure_threshold=3
3 failures: open, failures 3
2 failures, a timeout around a call, 2 failures: closed, failures 2
100 timeouts around calls: closed, failures 0
3 timeouts inside of the function: open, failures 3
open, then a call of before ends well: closed, failures 0" ]
