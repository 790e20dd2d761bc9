"""Journals: sections with functions of their own."""

import json
import pickle
from pathlib import Path
from typing import Any, assert_type

import trio

from trio_conman import ConMan, Success, TaskHandle
from trio_conman.journal import Journal, JournalError, JournalStatistics, Section, open_journal


def key_of(url: str, retries: int) -> tuple[str, int]:
    return url, retries


def pack(page: dict[str, int]) -> str:
    return json.dumps(page)


def unpack(text: str) -> dict[str, int]:
    page: dict[str, int] = json.loads(text)
    return page


async def fetch(url: str) -> dict[str, int]:
    return {url: 1}


async def use(nursery: trio.Nursery, journal: Journal, pages: Section[dict[str, int]]) -> None:
    async with ConMan[dict[str, int]].open(nursery, journal=pages) as cm:
        assert_type(await cm.run(fetch, "a", journal=journal), TaskHandle[dict[str, int]])
        assert_type(cm.run_nowait(fetch, "a", journal=pages), TaskHandle[dict[str, int]])
        assert_type(cm.start_soon(fetch, "a", journal=None), TaskHandle[dict[str, int]])
        async with cm.map(fetch, ["a"], journal=pages) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, Success):
                    assert_type(outcome.recalled, bool)
        assert_type(cm.statistics().recalled, int)
    async with ConMan[int].open(nursery, journal=journal) as other:
        assert_type(other, ConMan[int])
    ConMan.open(nursery, journal=pages)


async def main(path: Path) -> None:
    async with open_journal(path, durable=True, flush_after=0.1) as journal:
        assert_type(journal, Journal)
        section = journal.section("pages", key=key_of, version="2", encode=pack, decode=unpack)
        assert_type(section, Section[Any])
        typed: Section[dict[str, int]] = section
        assert_type(typed.name, str)
        journal.section("objects", encode=pickle.dumps, decode=pickle.loads)
        await journal.discard("pages")
        await journal.flush()
        statistics = journal.statistics()
        assert_type(statistics, JournalStatistics)
        assert_type(statistics.pending, int)
    assert_type(JournalError("text").args, tuple[Any, ...])
