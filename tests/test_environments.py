"""It works wherever trio does: with asserts left out, in Python's development mode, as a guest of asyncio.

The lowest and the newest trio and attrs, and each Python, are for the sessions of nox.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import trio_conman
from trio_conman import ConMan

pytestmark = pytest.mark.unmeasured

PROGRAM = Path(__file__).parent / "programs" / "everything.py"
PACKAGE = Path(trio_conman.__file__).parent
HARMLESS = {"isinstance", "callable", "len", "type"}


@pytest.mark.parametrize("mode", ["plain", "guest", "mock"])
@pytest.mark.parametrize("flags", [["-W", "error", "-X", "dev"], ["-O"], ["-OO"]], ids=" ".join)
def test_a_program_works_as_a(mode: str, flags: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, *flags, PROGRAM, mode], capture_output=True, text=True, check=False, timeout=120
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "all is well\n", "")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_no_behaviour_lives_in_an_assert(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert):
            for part in ast.walk(node.test):
                assert not isinstance(part, ast.NamedExpr | ast.Await | ast.Yield), ast.unparse(node)
                if isinstance(part, ast.Call):
                    assert isinstance(part.func, ast.Name) and part.func.id in HARMLESS, ast.unparse(node)


async def test_in_the_nursery_of_pytest_trio(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async with ConMan[None].open(nursery, 2) as cm:
        for _ in range(4):
            await cm.run(trio.sleep, 1)
    assert (cm.statistics().succeeded, trio.current_time()) == (4, 2.0)


def test_on_a_clock_that_is_moved_by_hand() -> None:
    clock = MockClock(rate=0)

    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2, task_timeout=5) as cm:
            handles = [await cm.run(trio.sleep, 3), await cm.run(trio.sleep, 9)]
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(3)
            await handles[0].result()
            assert handles[1].state == "running"
            clock.jump(2)
            with pytest.raises(trio.TooSlowError):
                await handles[1].result()

    trio.run(main, clock=clock)


def test_on_a_clock_that_runs_as_fast_as_any() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:
            for _ in range(4):
                await cm.run(trio.sleep, 0.01)
        assert cm.statistics().succeeded == 4

    trio.run(main, clock=MockClock(rate=1))
