import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import trio

from trio_conman import ConMan, Failure, Success

Row = tuple[int, str]  # id, text

SCHEMA = "CREATE TABLE jobs (id INTEGER PRIMARY KEY, text TEXT NOT NULL, answer TEXT, error TEXT)"
NEXT_ROWS = (
    "SELECT id, text FROM jobs WHERE answer IS NULL AND error IS NULL AND id > ? ORDER BY id LIMIT 100"
)
COUNTS = "SELECT count(*), count(answer), count(error) FROM jobs"


async def ask(row: Row) -> str:
    _, text = row
    await trio.lowlevel.checkpoint()  # stands for a call that costs money
    if text == "question 666":
        raise ValueError("no answer to that")
    return text.replace("question", "answer")


def unanswered(database: sqlite3.Connection) -> Iterator[Row]:
    """What is left to do, read by the hundred: no query stays open while there are writes."""
    last = 0
    while rows := database.execute(NEXT_ROWS, [last]).fetchall():
        yield from rows
        last = rows[-1][0]


async def main(path: Path, most: int) -> None:
    database = sqlite3.connect(path)
    done = 0
    try:
        async with (
            trio.open_nursery() as nursery,
            ConMan[str].open(nursery, limit=20) as cm,
            cm.map(ask, unanswered(database)) as outcomes,
        ):
            async for outcome in outcomes:
                ((number, _),) = outcome.args
                match outcome:
                    case Success(value=answer):
                        database.execute("UPDATE jobs SET answer = ? WHERE id = ?", [answer, number])
                    case Failure(error=error):
                        database.execute("UPDATE jobs SET error = ? WHERE id = ?", [repr(error), number])
                done += 1
                if done % 50 == 0:
                    database.commit()
                if done == most:
                    break  # stands for whatever stops the program
    finally:
        database.commit()
        print("{} rows, answers: {}, errors: {}".format(*database.execute(COUNTS).fetchone()))
        database.close()


with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "jobs.sqlite3")
    database = sqlite3.connect(path)
    with database:
        database.execute(SCHEMA)
        texts = ([f"question {number}"] for number in range(1, 1001))
        database.executemany("INSERT INTO jobs (text) VALUES (?)", texts)
    database.close()

    trio.run(main, path, 400)
    trio.run(main, path, 1_000)  # the same command again: it goes on with what is left
