import logging
import tempfile
from math import isqrt
from pathlib import Path

import trio
from distributed import Client, LocalCluster

from trio_conman import ConMan, Failure, RetryConfig, Success
from trio_conman.executors import run_in_executor


def count_primes(end: int, lock: Path) -> int:
    if lock.exists():
        lock.unlink()  # only the first attempt fails
        raise BlockingIOError(f"{lock.name} is there")
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


async def main(client: Client, directory: Path) -> None:
    (directory / "2000000.lock").touch()
    executor = client.get_executor(pure=False)

    async def count(end: int) -> int:
        return await run_in_executor(
            executor, count_primes, end, directory / f"{end}.lock"
        )

    retry = RetryConfig.exponential(max_attempts=2, retry_on=OSError)
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, limit=4, retry=retry) as cm:
            async with cm.map(
                count, (1_000, 4_000_000, -5, 2_000_000), ordered=True
            ) as outcomes:
                async for outcome in outcomes:
                    match outcome:
                        case Success(value=primes, args=(end,), retries=retries):
                            print(f"{primes:,} primes below {end:,}, retries: {retries}")
                        case Failure(error=error, args=(end,)):
                            print(f"{end}: {error!r}")


if __name__ == "__main__":  # a worker imports this file
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would still take port 8787
            silence_logs=logging.CRITICAL,  # the workers log what the outcomes tell
        ) as cluster,
        Client(cluster) as client,
    ):
        trio.run(main, client, Path(directory))
