import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import isqrt

import trio

from trio_conman import ConMan, Failure, RetryConfig, Success
from trio_conman.executors import broken_worker_errors, restarting, run_in_executor


def count_primes(end: int) -> int:
    if end < 2:
        raise ValueError(f"there are no primes below {end}")
    sieve = bytearray([1]) * end
    sieve[:2] = b"\0\0"
    for number in range(2, isqrt(end) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(
                len(range(number * number, end, number))
            )
    return sum(sieve)


async def main(workers: int) -> None:
    # Not fork, the default on Linux before Python 3.14: not safe once there are threads.
    context = multiprocessing.get_context("spawn")
    make = partial(
        ProcessPoolExecutor,
        workers,
        mp_context=context,
        initializer=signal.signal,  # Ctrl-C is not for the processes of the pool
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    with restarting(make) as pool:
        retry = RetryConfig.exponential(retry_on=broken_worker_errors(pool))

        async def count(end: int) -> int:
            return await run_in_executor(pool, count_primes, end)

        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, limit=workers, retry=retry) as cm:
                async with cm.map(
                    count, (1_000, 4_000_000, -5, 2_000_000), ordered=True
                ) as outcomes:
                    async for outcome in outcomes:
                        match outcome:
                            case Success(value=primes, args=(end,)):
                                print(f"{primes:,} primes below {end:,}")
                            case Failure(error=error, args=(end,)):
                                print(f"{end}: {error!r}")


if __name__ == "__main__":  # a process that is spawned imports this file
    trio.run(main, 2)
