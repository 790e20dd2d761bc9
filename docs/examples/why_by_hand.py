import trio

PAGES = ["home", "news", "shop", "blog", "jobs", "help", "wiki", "team", "maps", "mail"]
BUSY = {"home": 2, "news": 2}  # how many requests fail before the page is there


async def fetch(page: str) -> str:
    await trio.sleep(0.3)  # stands for a request
    if page == "shop":
        raise LookupError("no such page")
    if BUSY.get(page, 0) > 0:
        BUSY[page] -= 1
        raise ConnectionError("busy")
    return f"the {page} page"


async def main() -> None:
    start = trio.current_time()
    limiter = trio.CapacityLimiter(2)
    results: list[str] = []
    errors: list[Exception] = []

    async def work(page: str) -> None:
        try:
            for attempt in range(4):
                try:
                    with trio.fail_after(1.0):
                        results.append(await fetch(page))
                    return
                except (ConnectionError, trio.TooSlowError) as error:
                    if attempt == 3:
                        errors.append(error)
                        return
                delay = min(0.4 * 2**attempt, 5.0)  # without jitter, to show times
                await trio.sleep(delay)
        except Exception as error:
            errors.append(error)
        finally:
            limiter.release_on_behalf_of(page)

    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for page in PAGES:
                await limiter.acquire_on_behalf_of(page)
                nursery.start_soon(work, page)
    print(f"{trio.current_time() - start:.1f} s, {len(results)} pages, errors: {errors}")


trio.run(main)
