import hashlib
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trio

from trio_conman import ConMan, Failure, Success
from trio_conman.executors import run_in_executor


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def hash_files(paths: list[Path]) -> dict[str, str]:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, limit=8) as cm:
            for path in paths:
                await cm.run(trio.to_thread.run_sync, hash_file, path, name=path.name)
    digests: dict[str, str] = {}
    for outcome in cm.outcomes():
        match outcome:
            case Success(value=digest, name=name):
                digests[name] = digest
            case Failure(error=error, name=name):
                print(f"{name}: {type(error).__name__}")
    return digests


def connect() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE files (name TEXT, digest TEXT)")
    return connection


def store(connection: sqlite3.Connection, digests: dict[str, str]) -> list[str]:
    with connection:
        connection.executemany("INSERT INTO files VALUES (?, ?)", digests.items())
    rows = connection.execute(
        "SELECT name, substr(digest, 1, 8) FROM files ORDER BY name"
    )
    return [f"{name}: {digest}" for name, digest in rows]


async def main(directory: Path) -> None:
    paths = [directory / name for name in ("home", "news", "shop")]
    for path in paths:
        path.write_bytes(path.name.encode() * 1_000_000)
    digests = await hash_files([*paths, directory / "blog"])
    # A connection to SQLite works only in the thread that has opened it.
    with ThreadPoolExecutor(1) as thread:
        connection = await run_in_executor(thread, connect)
        print(*await run_in_executor(thread, store, connection, digests), sep="\n")
        await run_in_executor(thread, connection.close)


with tempfile.TemporaryDirectory() as directory:
    trio.run(main, Path(directory))
