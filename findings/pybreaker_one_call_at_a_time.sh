#!/usr/bin/env bash
# pybreaker 1.4.1: of all threads that call through one circuit breaker, one runs and the others wait.
#
# The breaker is meant to be shared, and says that it is safe for threads: it holds its lock for as long as the call
# takes. A service that is called from three threads so gets one request at a time, also while all is well, and one call
# that hangs stops all others behind it, with no error that the breaker could count. Each of three calls here waits until
# the three are together, for 5 s at most. circuitbreaker 2.1.3 holds no lock.
#
# Seen:
#   pybreaker: alone, alone, alone
#   circuitbreaker: together, together, together
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pybreaker==1.4.1 circuitbreaker==2.1.3
cat >main.py <<'PY'
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from circuitbreaker import CircuitBreaker
from pybreaker import CircuitBreaker as PyBreaker

THREADS = 3


def tell(name: str, breaker: Callable) -> None:
    barrier = threading.Barrier(THREADS, timeout=5)

    @breaker
    def call() -> str:
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            return "alone"
        return "together"

    with ThreadPoolExecutor(THREADS) as pool:
        calls = [pool.submit(call) for _ in range(THREADS)]
        print(f"{name}: {', '.join(each.result() for each in calls)}")


tell("pybreaker", PyBreaker())
tell("circuitbreaker", CircuitBreaker())
PY
seen=$(venv/bin/python main.py)
echo "pybreaker 1.4.1, circuitbreaker 2.1.3"
echo "$seen"
[ "$seen" = "pybreaker: alone, alone, alone
circuitbreaker: together, together, together" ]
