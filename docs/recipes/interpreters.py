import sys
from math import isqrt

import trio

from trio_conman import ConMan, Failure, Success
from trio_conman.executors import run_in_executor

if sys.version_info >= (3, 14):
    from concurrent.futures import InterpreterPoolExecutor as Pool
else:
    from concurrent.futures import ProcessPoolExecutor as Pool


def count_primes(start: int, end: int) -> int:
    count = 0
    for number in range(max(start, 2), end):
        for divisor in range(2, isqrt(number) + 1):
            if number % divisor == 0:
                break
        else:
            count += 1
    return count


async def main(workers: int) -> None:
    with Pool(workers) as pool:

        async def count(start: int) -> int:
            return await run_in_executor(pool, count_primes, start, start + 10_000)

        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, limit=workers) as cm:
                async with cm.map(
                    count, range(0, 40_000, 10_000), ordered=True
                ) as outcomes:
                    async for outcome in outcomes:
                        match outcome:
                            case Success(value=primes, args=(start,)):
                                print(f"{primes:,} primes from {start:,}")
                            case Failure(error=error, args=(start,)):
                                print(f"{start:,}: {error!r}")


if __name__ == "__main__":  # an interpreter that is started imports this file
    trio.run(main, 2)
