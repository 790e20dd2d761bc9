"""The benchmarks that need nothing but the package work; how fast anything is, no test says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import (
    bench_growth,
    bench_import,
    bench_journal,
    bench_memory,
    bench_run,
    bench_scale,
)

pytestmark = pytest.mark.unmeasured


@pytest.mark.one_python
@pytest.mark.parametrize(
    "benchmark, flags, tables",
    [
        (bench_run, ["--no-rivals"], {"side_by_side", "options"}),
        (bench_growth, [], {"growth_by_tasks", "growth_by_limit"}),
        (bench_memory, [], {"memory_waiting", "memory_peaks"}),
        (bench_import, [], {"import"}),
        (bench_journal, ["--no-rivals"], {"journal", "journal_opening"}),
        (bench_scale, [], {"scale"}),
    ],
)
def test_benchmark_makes_its_tables(
    benchmark: Any,
    flags: list[str],
    tables: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", [benchmark.__name__, "--quick", "--json", str(path), *flags])
    benchmark.main()
    written = json.loads(path.read_text(encoding="utf-8"))
    assert set(written["tables"]) == tables
    printed = capsys.readouterr().out
    for table in written["tables"].values():
        assert table["title"] in printed
        for row in table["rows"].values():
            assert all(spread["low"] <= spread["median"] <= spread["high"] for spread in row.values())
    assert written["about"]["packages"]["trio-conman"]
