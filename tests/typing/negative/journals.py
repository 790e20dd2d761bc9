"""What is refused of journals."""

from trio_conman.journal import Journal, JournalStatistics, open_journal


def encode(value: object) -> int:
    return 1


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
