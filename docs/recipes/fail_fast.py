import trio

from trio_conman import ConMan, Failure, Success, TaskHandle

SECONDS = {"a": 0.1, "b": 0.2, "c": 9.0, "d": 9.0, "e": 9.0}


async def copy(part: str) -> str:
    await trio.sleep(SECONDS[part])  # stands for a copy
    if part == "b":
        raise OSError("disk full")
    return f"copy of {part}"


async def main() -> None:
    start = trio.current_time()
    handles: dict[str, TaskHandle[str]] = {}
    async with trio.open_nursery() as nursery:
        try:
            async with ConMan[str].open(nursery, limit=3, max_errors=0) as cm:
                for part in SECONDS:
                    handles[part] = await cm.run(copy, part)
        except* OSError as group:
            print(
                f"given up after {trio.current_time() - start:.1f} s: {group.exceptions}"
            )

    # What was done is not lost, and who was cancelled can be told from who failed.
    for part, handle in handles.items():
        match handle.outcome:
            case Success(value=value):
                print(f"{part}: {value}")
            case Failure(reason=reason):
                print(f"{part}: {reason.value}")


trio.run(main)
