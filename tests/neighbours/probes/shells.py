"""IPython and Jupyter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import trio

MAIN = dedent("""
    import trio
    from trio_conman import ConMan

    async def double(n):
        return 2 * n

    async def main():
        async with trio.open_nursery() as nursery:
            async with ConMan.open(nursery, 2) as cm:
                await cm.run(double, 2)
        return cm.outputs()
""")
RUN = "print('result', trio.run(main))"
AWAIT = "print('result', await main())"


def verdict(output: str) -> str:
    """Whether it has printed the result; else the last error."""
    errors = re.findall(r"^\w*Error: .*", output, re.MULTILINE)
    return "works" if "result [4]" in output else (errors or ["nothing"])[-1]


async def ipython() -> dict[str, str]:
    async def run(*lines: str) -> str:
        with TemporaryDirectory() as folder:
            (Path(folder) / "program.py").write_text(MAIN)
            typed = "\n".join(["from program import *", *lines, "exit", ""]).encode()
            command = [sys.executable, "-m", "IPython", "--simple-prompt", "--colors=NoColor"]
            options = {"capture_stdout": True, "stderr": subprocess.STDOUT, "check": False}
            env = os.environ | {"IPYTHONDIR": folder}
            ran = await trio.run_process(command, stdin=typed, env=env, cwd=folder, **options)
            return verdict(ran.stdout.decode())

    return {
        "trio.run": await run(RUN),
        "await": await run(AWAIT),
        "await after %autoawait trio": await run("%autoawait trio", AWAIT),
    }


async def jupyter() -> dict[str, str]:
    return await trio.to_thread.run_sync(in_notebook)


def in_notebook() -> dict[str, str]:
    import nbformat
    from nbclient import NotebookClient

    seen = {}
    for name, cells in {
        "trio.run": [RUN],
        "await": [AWAIT],
        "await after %autoawait trio": ["%autoawait trio", AWAIT],
    }.items():
        code = [nbformat.v4.new_code_cell(each) for each in [MAIN, *cells]]
        notebook = nbformat.v4.new_notebook(cells=code)
        NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True).execute()
        outputs = notebook.cells[-1].outputs
        texts = [each.get("text") or f"{each.get('ename')}: {each.get('evalue')}" for each in outputs]
        seen[name] = verdict("\n".join(texts))
    return seen
