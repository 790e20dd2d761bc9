import tenacity
import trio

TROUBLES = ["busy", "busier"]


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(ConnectionError),
    stop=tenacity.stop_after_attempt(4) | tenacity.stop_after_delay(30),
    wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
    reraise=True,
)
async def fetch(number: int) -> str:
    await trio.sleep(0.1)
    if TROUBLES:
        raise ConnectionError(TROUBLES.pop())
    return f"page {number}"


async def main() -> None:
    print(await fetch(1))


trio.run(main)
