import json
import tempfile
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from trio_conman import ConMan, Outcome, Success
from trio_conman.batches import in_batches

Record = tuple[int, str]


async def parse(line: str) -> Record:
    record = json.loads(line)
    return record["id"], record["text"]


async def shorten(record: Record) -> str:
    await trio.lowlevel.checkpoint()  # stands for a request
    number, text = record
    return f"{number}: {len(text)} characters\n"


async def good_ones(outcomes: AsyncIterator[Outcome[Record]]) -> AsyncIterator[Record]:
    async for outcome in outcomes:
        if isinstance(outcome, Success):
            yield outcome.value
        else:
            print(f"line {outcome.index + 1}: {outcome.error!r}")


async def main(source: Path, target: Path) -> None:
    with (
        source.open(encoding="utf-8") as lines,
        target.open("w", encoding="utf-8") as out,
    ):
        async with (
            trio.open_nursery() as nursery,
            ConMan[Record].open(nursery, limit=2) as parsers,
            ConMan[str].open(nursery, limit=20) as shorteners,
            parsers.map(parse, lines, ordered=True) as parsed,
            shorteners.map(shorten, good_ones(parsed), ordered=True) as shortened,
            in_batches(shortened, 100) as batches,
        ):
            async for batch in batches:
                out.writelines(
                    outcome.value for outcome in batch if isinstance(outcome, Success)
                )


with tempfile.TemporaryDirectory() as directory:
    source, target = Path(directory, "records.jsonl"), Path(directory, "lengths.txt")
    with source.open("w", encoding="utf-8") as file:
        for number in range(1, 10_001):
            line = json.dumps({"id": number, "text": "word " * 200})
            file.write(f"{line if number != 1_234 else 'no JSON'}\n")

    tracemalloc.start()
    trio.run(main, source, target)
    _, peak = tracemalloc.get_traced_memory()

    written = target.read_text(encoding="utf-8").splitlines()
    read = source.stat().st_size // 1_000_000
    print(f"{read} MB read, {len(written)} lines written, the last one:", written[-1])
    print(f"less than 1 MB in memory at a time: {peak < 1_000_000}")
