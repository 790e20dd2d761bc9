#!/usr/bin/env bash
# bulkman 2.0.4: a call that runs into the bulkhead's own time limit counts as failed, and never opens its circuit.
#
# A bulkhead has a time limit for its calls, and a circuit that opens after as many failures as it is told. But the
# limit cancels the call, and what is cancelled is neither a failure nor a success for the circuit, while the
# statistics count it as failed. So a service that has hung, the one for which both are there, has each call wait for
# the whole limit, for good, and the state says that it is healthy. A limit of the function's own, which raises
# TimeoutError, is a failure for the circuit. Time is virtual here.
#
# Seen on trio, ten calls one after the other, with failure_threshold=3:
#   each raises ConnectionError: called 3, failed 3, after 0 s, the circuit OPEN, the bulkhead isolated
#   each hangs, timeout_seconds=5: called 10, failed 10, after 50 s, the circuit CLOSED, the bulkhead healthy
#   each hangs, a limit of 5 s in the function: called 3, failed 3, after 15 s, the circuit OPEN, the bulkhead isolated
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 bulkman==2.0.4 \
  resilient-circuit==0.8.6 trio==0.35.0
cat >main.py <<'PY'
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version

import trio
import trio.testing
from bulkman import Bulkhead, BulkheadCircuitOpenError, BulkheadConfig, BulkheadTimeoutError


async def fail() -> None:
    raise ConnectionError("down")


async def hang() -> None:
    await trio.sleep(3600)


async def hang_for_a_time() -> None:
    try:
        with trio.fail_after(5):
            await hang()
    except trio.TooSlowError:
        raise TimeoutError from None


async def told(ask: Callable[[], Awaitable[None]], limit: float | None) -> str:
    config = BulkheadConfig(
        "service", timeout_seconds=limit, failure_threshold=3, isolation_duration=86400, circuit_breaker_enabled=True
    )
    bulkhead = Bulkhead(config)
    start = trio.current_time()
    called = 0

    async def counted() -> None:
        nonlocal called
        called += 1
        await ask()

    for _ in range(10):
        try:
            await bulkhead.execute(counted)
        except (BulkheadCircuitOpenError, BulkheadTimeoutError):
            pass
    seen = await bulkhead.get_stats()
    words = f"called {called}, failed {seen['failed_executions']}, after {trio.current_time() - start:.0f} s"
    await bulkhead.shutdown()
    return f"{words}, the circuit {seen['circuit_status']}, the bulkhead {seen['state']}"


def tell(name: str, *args: object) -> None:
    print(f"{name}: {trio.run(told, *args, clock=trio.testing.MockClock(autojump_threshold=0))}")


logging.disable()
print(f"bulkman {version('bulkman')} on trio")
tell("each raises ConnectionError", fail, None)
tell("each hangs, timeout_seconds=5", hang, 5)
tell("each hangs, a limit of 5 s in the function", hang_for_a_time, None)
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "bulkman 2.0.4 on trio
each raises ConnectionError: called 3, failed 3, after 0 s, the circuit OPEN, the bulkhead isolated
each hangs, timeout_seconds=5: called 10, failed 10, after 50 s, the circuit CLOSED, the bulkhead healthy
each hangs, a limit of 5 s in the function: called 3, failed 3, after 15 s, the circuit OPEN, the bulkhead isolated" ]
