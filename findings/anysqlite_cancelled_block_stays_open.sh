#!/usr/bin/env bash
# anysqlite 0.0.5: a connection whose `async with` is cancelled is not closed, and its transaction keeps the file locked.
#
# The end of the block awaits the closing in a thread. Where the block is left because it was cancelled, by trio or by
# anyio on asyncio, that is cancelled before it begins, as all is that awaits in a cancelled scope. So what was written
# and not committed is neither kept nor undone, and whoever else writes to the file is told that it is locked, until the
# garbage collector comes by, or for good where something still refers to the connection. It is the same with a rollback
# in an `except` or `finally`. Both need a shielded scope: `with CancelScope(shield=True)`. A timeout of asyncio itself
# cancels once only, and so the closing is done.
#
# Seen, of a block that has inserted a row when a time limit of 1 s ends it, and a second connection that inserts then:
#   trio, move_on_after: open, second: database is locked
#   asyncio, move_on_after: open, second: database is locked
#   asyncio, asyncio.timeout: closed, second: done
#   trio, move_on_after, closed in a shielded scope: closed, second: done
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 anysqlite==0.0.5 trio==0.35.0
cat >main.py <<'PY'
import asyncio
import sqlite3
from importlib.metadata import version
from pathlib import Path

import anyio
import anysqlite

FILE = "jobs.sqlite3"
LIMIT = 1


async def insert_and_wait(connection: anysqlite.Connection) -> None:
    await connection.execute("INSERT INTO job VALUES (1)")
    await anyio.sleep(60)


async def scope(connection: anysqlite.Connection) -> None:
    with anyio.move_on_after(LIMIT):
        async with connection:
            await insert_and_wait(connection)


async def timeout(connection: anysqlite.Connection) -> None:
    try:
        async with asyncio.timeout(LIMIT):
            async with connection:
                await insert_and_wait(connection)
    except TimeoutError:
        pass


async def shielded(connection: anysqlite.Connection) -> None:
    with anyio.move_on_after(LIMIT):
        try:
            await insert_and_wait(connection)
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close()


async def told(block: object) -> str:
    Path(FILE).unlink(missing_ok=True)
    connection = await anysqlite.connect(FILE)
    await connection.execute("CREATE TABLE job (number)")
    await block(connection)
    try:
        await connection.execute("SELECT 1")
        state = "open"
    except sqlite3.ProgrammingError:
        state = "closed"
    async with await anysqlite.connect(FILE, timeout=0) as other:
        try:
            await other.execute("INSERT INTO job VALUES (2)")
            end = "done"
        except sqlite3.OperationalError as error:
            end = str(error)
    await connection.close()
    return f"{state}, second: {end}"


print(f"anysqlite {version('anysqlite')}")
for backend, name, block in (
    ("trio", "move_on_after", scope),
    ("asyncio", "move_on_after", scope),
    ("asyncio", "asyncio.timeout", timeout),
    ("trio", "move_on_after, closed in a shielded scope", shielded),
):
    print(f"{backend}, {name}: {anyio.run(told, block, backend=backend)}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "anysqlite 0.0.5
trio, move_on_after: open, second: database is locked
asyncio, move_on_after: open, second: database is locked
asyncio, asyncio.timeout: closed, second: done
trio, move_on_after, closed in a shielded scope: closed, second: done" ]
