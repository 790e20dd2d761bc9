import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import trio

from trio_conman import ConMan, Failure, Outcome, StopReason, Success
from trio_conman.batches import in_batches
from trio_conman.reports import Tally

Row = tuple[int, str]  # id, text

SCHEMA = """
CREATE TABLE jobs (id INTEGER PRIMARY KEY, text TEXT NOT NULL, answer TEXT, error TEXT)
"""
NEXT_ROWS = """
SELECT id, text FROM jobs
WHERE answer IS NULL AND error IS NULL AND id > ? ORDER BY id LIMIT 100
"""
COUNTS = "SELECT count(*), count(answer), count(error) FROM jobs"


async def ask(row: Row) -> str:
    _, text = row
    await trio.lowlevel.checkpoint()  # stands for a call that costs money
    if text == "question 666":
        raise ValueError("no answer to that")
    return text.replace("question", "answer")


def unanswered(database: sqlite3.Connection) -> Iterator[Row]:
    """What is left to do, by the hundred: no query stays open while there are writes."""
    last = 0
    while rows := database.execute(NEXT_ROWS, [last]).fetchall():
        yield from rows
        last = rows[-1][0]


def store(database: sqlite3.Connection, outcomes: list[Outcome[str]]) -> None:
    """Write the answers, all or none."""
    with database:
        for outcome in outcomes:
            ((number, _),) = outcome.args
            match outcome:
                case Success(value=answer):
                    database.execute(
                        "UPDATE jobs SET answer = ? WHERE id = ?", [answer, number]
                    )
                case Failure(
                    reason=StopReason.CANCELLED
                    | StopReason.MANAGER_TIMEOUT
                    | StopReason.DEADLINE  # no time was left for another attempt
                ):
                    pass  # it was not its own error: it is still to be done
                case Failure(error=error):
                    database.execute(
                        "UPDATE jobs SET error = ? WHERE id = ?", [repr(error), number]
                    )


async def main(path: Path, most: int) -> None:
    tally = Tally()
    with closing(sqlite3.connect(path)) as database:
        async with (
            trio.open_nursery() as nursery,
            ConMan[str].open(nursery, limit=20) as cm,
            cm.map(ask, unanswered(database)) as outcomes,
            in_batches(outcomes, 50, seconds=1) as batches,
        ):
            async for batch in batches:
                store(database, batch)
                for outcome in batch:
                    tally.add(outcome)
                if tally.succeeded >= most:
                    break  # stands for whatever stops the program
        print(
            "{} rows, answers: {}, errors: {}".format(
                *database.execute(COUNTS).fetchone()
            )
        )
    print(tally)


with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "jobs.sqlite3")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(SCHEMA)
        texts = ([f"question {number}"] for number in range(1, 1001))
        database.executemany("INSERT INTO jobs (text) VALUES (?)", texts)

    trio.run(main, path, 400)
    trio.run(main, path, 1_000)  # the same command again: it goes on with what is left
