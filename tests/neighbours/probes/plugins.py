"""pytest-trio beside the plugins of others: on which loop does a test run?"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import trio

TESTS = dedent("""
    import sys

    import pytest
    import sniffio
    import trio

    from trio_conman import ConMan

    async def double(n):
        return 2 * n

    MARK
    async def test_manager(nursery):
        async with ConMan.open(nursery, 2) as cm:
            await cm.run(double, 2)
        assert cm.outputs() == [4]
        tell("test_manager")

    @pytest.mark.asyncio
    async def test_asyncio():
        tell("test_asyncio")

    @pytest.mark.anyio
    async def test_anyio(anyio_backend):
        tell(f"test_anyio[{anyio_backend}]")

    def tell(name):
        print(f"<{name} on {sniffio.current_async_library()}>", file=sys.__stdout__)
""")
NAMES = {
    "of a manager": "test_manager",
    "marked asyncio": "test_asyncio",
    "marked anyio, [asyncio]": "test_anyio[asyncio]",
    "marked anyio, [trio]": "test_anyio[trio]",
}


async def outcomes(*settings: str, without: tuple[str, ...] = (), mark: str = "") -> dict[str, str]:
    """What becomes of each test, under settings of pytest."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "pytest.ini").write_text("\n".join(["[pytest]", "markers = asyncio", *settings]))
        (Path(folder) / "test_it.py").write_text(TESTS.replace("MARK", mark))
        aside = [f"-pno:{plugin}" for plugin in without]
        command = [sys.executable, "-m", "pytest", "-s", "-rA", "--tb=short", *aside]
        ran = await trio.run_process(
            command, cwd=folder, capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    said = ran.stdout.decode()
    return {
        what: "-" if any(what.startswith(f"marked {plugin}") for plugin in without) else outcome(name, said)
        for what, name in NAMES.items()
    }


def outcome(name: str, said: str) -> str:
    """What became of a test, and of each variant that a plugin has made of it."""
    line = re.compile(
        rf"^(PASSED|FAILED|ERROR) \S*::({re.escape(name)}(?:\[\w+\])?)(?: - (.*))?$", re.MULTILINE
    )
    found = []
    for verdict, _, error in line.findall(said):
        if verdict == "PASSED":
            on = re.findall(rf"<{re.escape(name)} on (\w+)>", said)
            found.append(f"passes, on {' and '.join(sorted(set(on)))}")
        else:
            found.append(f"fails: {error.removeprefix('Failed: ').removesuffix('...')}")
    return "; ".join(dict.fromkeys(found)) or "-"


trio_mode = "trio_mode = true"
marked = "@pytest.mark.trio"
alone = partial(outcomes, trio_mode, without=("asyncio", "anyio"))
strict = partial(outcomes, trio_mode, "asyncio_mode = strict", without=("anyio",))
auto = partial(outcomes, trio_mode, "asyncio_mode = auto", without=("anyio",))
anyio = partial(outcomes, trio_mode, without=("asyncio",))
marked_strict = partial(outcomes, "asyncio_mode = strict", without=("anyio",), mark=marked)
marked_auto = partial(outcomes, "asyncio_mode = auto", without=("anyio",), mark=marked)
marked_anyio = partial(outcomes, without=("asyncio",), mark=marked)
marked_anyio_auto = partial(outcomes, "anyio_mode = auto", without=("asyncio",), mark=marked)
marked_both = partial(outcomes, "asyncio_mode = strict", mark=marked)
