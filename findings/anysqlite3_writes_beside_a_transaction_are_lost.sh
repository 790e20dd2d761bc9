#!/usr/bin/env bash
# anysqlite3 0.0.1: what is written to another connection while a transaction is open is never committed, and is lost.
#
# A statement outside of a transaction gets one of its own, which is committed at once. Whether it is outside is asked
# of a context variable, which says that a transaction is open, and not on which connection. So within `transaction()`
# of one connection the statements of all others get none: sqlite3 begins one by itself, which nobody ends. The row can
# be read there, the file stays locked for others, and the close drops it. The next statement outside fails, and
# `commit()` is refused with the words that a transaction is to be used. A task that is started within the block
# inherits the variable for good, so that all that it writes is lost like this, also when the block has long ended, and
# nothing fails. A `transaction()` around each write helps.
#
# Seen on trio, rows in the file after the connection was closed:
#   written outside of a transaction: 1
#   written within a transaction of another file's connection: 0
#   the same, and then one more: OperationalError: cannot start a transaction within a transaction, 0
#   written by a task that was started in a transaction, after its end: 0
#   the same, with a transaction of its own: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 anysqlite3==0.0.1 trio==0.35.0
cat >main.py <<'PY'
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import anysqlite3
import trio
from anysqlite3 import Connection

INSERT = "INSERT INTO job VALUES (1)"


async def outside(jobs: Connection, other: Connection) -> None:
    await jobs.execute(INSERT)


async def within(jobs: Connection, other: Connection) -> None:
    async with other.transaction():
        await jobs.execute(INSERT)
        assert await (await jobs.execute("SELECT * FROM job")).fetchall() == [(1,)]
    with closing(sqlite3.connect("jobs", timeout=0)) as connection:
        try:
            connection.execute(INSERT)
        except sqlite3.OperationalError as error:
            assert str(error) == "database is locked"
        else:
            raise AssertionError


async def within_and_more(jobs: Connection, other: Connection) -> None:
    await within(jobs, other)
    await jobs.execute(INSERT)


async def task(jobs: Connection, other: Connection, *, own: bool = False) -> None:
    ended = trio.Event()

    async def write() -> None:
        await ended.wait()
        if own:
            async with jobs.transaction():
                await jobs.execute(INSERT)
        else:
            await jobs.execute(INSERT)

    async with trio.open_nursery() as nursery:
        async with jobs.transaction():
            nursery.start_soon(write)
        ended.set()


async def task_with_own(jobs: Connection, other: Connection) -> None:
    await task(jobs, other, own=True)


async def rows(write: Callable[[Connection, Connection], Awaitable[None]]) -> str:
    failed = ""
    Path("jobs").unlink(missing_ok=True)
    async with await anysqlite3.connect("jobs") as jobs, await anysqlite3.connect("other") as other:
        await jobs.execute("CREATE TABLE job (number)")
        try:
            await write(jobs, other)
        except sqlite3.OperationalError as error:
            failed = f"{type(error).__name__}: {error}, "
    with closing(sqlite3.connect("jobs")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM job").fetchone()
    return f"{failed}{count}"


print(f"anysqlite3 {version('anysqlite3')} on trio")
for name, write in {
    "written outside of a transaction": outside,
    "written within a transaction of another file's connection": within,
    "the same, and then one more": within_and_more,
    "written by a task that was started in a transaction, after its end": task,
    "the same, with a transaction of its own": task_with_own,
}.items():
    print(f"{name}: {trio.run(rows, write)}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "anysqlite3 0.0.1 on trio
written outside of a transaction: 1
written within a transaction of another file's connection: 0
the same, and then one more: OperationalError: cannot start a transaction within a transaction, 0
written by a task that was started in a transaction, after its end: 0
the same, with a transaction of its own: 1" ]
