"""Which tests are chosen for a changed line."""

from __future__ import annotations

import pytest

from tests.reach import Reach, is_overload, rows_to_run

SOURCE = """\
LIMIT = 1

class Line:
    size = (
        LIMIT
    )

    @property
    def full(self):
        if (
            self.size
        ):
            return True
        return any(
            self.size,
        )
"""
WHOLE = range(17)
OF_CLASS = range(4, 17)
OF_FUNCTION = range(10, 17)


@pytest.mark.parametrize(
    "row, rows",
    [
        (1, WHOLE),
        (3, OF_CLASS),
        (5, OF_CLASS),
        (8, OF_FUNCTION),
        (9, OF_FUNCTION),
        (10, range(10, 13)),
        (11, range(10, 13)),
        (13, range(13, 14)),
        (15, range(14, 17)),
    ],
)
def test_the_rows_that_show_that_a_statement_runs(row: int, rows: range) -> None:
    found = rows_to_run(SOURCE, row)
    assert (found.start, found.stop) == (rows.start, rows.stop)


def test_files_that_are_about_a_line_come_first() -> None:
    reach = Reach()
    reach.seconds.update({"a::one": 1, "a::two": 2, "a::three": 3, "b::one": 9, "c::one": 4, "c::two": 1})
    chosen = {"a::one", "a::two", "b::one", "c::one", "c::two"}
    assert reach.by_file(chosen) == [["c::two", "c::one"], ["b::one"], ["a::one", "a::two"]]


def test_what_only_type_checkers_read() -> None:
    source = "@overload\ndef first(\n    *, n: int = 0\n) -> int: ...\ndef first(n=0):\n    return n\n"
    assert [is_overload(source, row) for row in range(1, 7)] == [True] * 4 + [False] * 2
