"""Journals: sections with functions of their own."""

import json
import pickle
from pathlib import Path
from typing import Any, assert_type

from trio_conman.journal import Journal, JournalError, JournalStatistics, Section, open_journal


def key_of(url: str, retries: int) -> tuple[str, int]:
    return url, retries


def pack(page: dict[str, int]) -> str:
    return json.dumps(page)


def unpack(text: str) -> dict[str, int]:
    page: dict[str, int] = json.loads(text)
    return page


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
