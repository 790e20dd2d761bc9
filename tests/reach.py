"""Which tests run which lines of the package, for `mutants`."""

from __future__ import annotations

import ast
import pickle
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import attrs
import pytest
from coverage import Coverage

Made: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@attrs.define
class Reach:
    """What is known of the tests, by their names, where those of other parameters count as one."""

    # By file and line.
    tests: dict[tuple[str, int], set[str]] = attrs.field(factory=dict)
    seconds: dict[str, float] = attrs.field(factory=dict)

    def add(self, other: Reach) -> None:
        for place, tests in other.tests.items():
            self.tests.setdefault(place, set()).update(tests)
        self.seconds |= other.seconds

    def tests_of(self, path: Path, row: int) -> set[str]:
        """Those that run the statement in that row; if none does, or all do, those that use what it is in."""
        source = path.read_text()
        for rows in (rows_to_run(source, row), range(source.count("\n") + 1)):
            found: set[str] = set().union(*[self.tests.get((str(path), each), ()) for each in rows])
            if found:
                return found
        return set()

    def by_file(self, tests: set[str]) -> list[list[str]]:
        """The same tests, those first of whose file the greatest part is among them, then the quickest."""
        files: dict[str, list[str]] = {}
        for test in sorted(tests, key=lambda test: self.seconds[test]):
            files.setdefault(file_of(test), []).append(test)
        sizes = Counter(map(file_of, self.seconds))
        return sorted(
            files.values(),
            key=lambda tests: (
                -len(tests) / sizes[file_of(tests[0])],
                sum(map(self.seconds.__getitem__, tests)),
            ),
        )


def file_of(test: str) -> str:
    return test.partition("::")[0]


def rows_to_run(source: str, row: int) -> range:
    """Those of the statement in that row; of what is made by it, if it is run at import."""
    inside, maker = _around(source, row)
    if maker is None:
        return range(source.count("\n") + 1)
    statement = inside[-1]
    if maker is statement or isinstance(maker, ast.ClassDef):
        return range(maker.body[0].lineno, _last(maker) + 1)
    body = getattr(statement, "body", None)
    return range(statement.lineno, body[0].lineno if body else _last(statement) + 1)


def is_overload(source: str, row: int) -> bool:
    """Whether only type checkers read that row, for this reason."""
    _, maker = _around(source, row)
    return maker is not None and any(ast.unparse(each) == "overload" for each in maker.decorator_list)


def _around(source: str, row: int) -> tuple[list[ast.stmt], Made | None]:
    """The statements around a row, from the outermost on, and the innermost function or class of them."""
    inside = [each for each in _statements(source) if _first(each) <= row <= _last(each)]
    made = [each for each in inside if isinstance(each, Made)]
    return inside, made[-1] if made else None


@cache
def _statements(source: str) -> list[ast.stmt]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]


def _last(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno


def _first(statement: ast.stmt) -> int:
    decorators = statement.decorator_list if isinstance(statement, Made) else []
    return min([statement.lineno, *[each.lineno for each in decorators]])


class Measuring:
    """A pytest plugin: the reach of all tests that run, in the end in a file."""

    def __init__(self, file: Path) -> None:
        self._reach = Reach()
        self._file = file
        self._coverage = Coverage(data_file=None, config_file=False, source=["trio_conman"])

    def pytest_sessionstart(self) -> None:
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        """What runs when a file is imported, its tests may have as parameters."""
        if isinstance(collector, pytest.Module):
            self._coverage.switch_context(collector.nodeid)
        report = yield
        self._coverage.switch_context("")
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        test = item.nodeid.partition("[")[0]
        self._coverage.switch_context(test)
        start = time.perf_counter()
        result = yield
        self._reach.seconds[test] = self._reach.seconds.get(test, 0) + time.perf_counter() - start
        return result

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        tests_of = {test: {test} for test in self._reach.seconds}
        for test in self._reach.seconds:
            tests_of.setdefault(file_of(test), set()).add(test)
        for file in data.measured_files():
            path = str(Path(file).relative_to(Path.cwd()))
            for row, contexts in data.contexts_by_lineno(file).items():
                self._reach.tests[path, row] = set().union(*[tests_of.get(each, ()) for each in contexts])
        self._file.write_bytes(pickle.dumps(self._reach))


@attrs.frozen
class Choosing:
    """A pytest plugin: of what is collected only these tests run, in this order."""

    tests: list[str]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        places = {test: place for place, test in enumerate(self.tests)}
        items[:] = sorted(
            [item for item in items if item.nodeid.partition("[")[0] in places],
            key=lambda item: places[item.nodeid.partition("[")[0]],
        )
