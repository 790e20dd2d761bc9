"""What is refused of journals."""

import trio

from trio_conman import ConMan
from trio_conman.journal import Journal, JournalStatistics, Section, open_journal


def encode(value: object) -> int:
    return 1


async def fetch(url: str) -> bytes:
    return b""


async def use(nursery: trio.Nursery, cm: ConMan[bytes], texts: Section[str]) -> None:
    ConMan[bytes].open(nursery, journal="pages.journal")  # error
    ConMan[bytes].open(nursery, journal=open_journal("pages.journal"))  # error
    ConMan[bytes].open(nursery, journal=texts)  # error
    await cm.run(fetch, "a", journal=texts)  # error
    cm.start_soon(fetch, "a", journal="pages.journal")  # error
    cm.map(fetch, ["a"], journal=True)  # error


async def main(journal: Journal, statistics: JournalStatistics) -> None:
    open_journal(b"pages.journal")  # error
    open_journal("pages.journal", True)  # error
    open_journal("pages.journal", flush_after="1")  # error
    async with open_journal("pages.journal", durable=None):  # error
        pass
    journal.section("pages", lambda url: url)  # error
    journal.section("pages", version=2)  # error
    journal.section("pages", encode=encode, decode=str)  # error
    journal.discard()  # error
    statistics.pending = 1  # error
