"""What SECURITY.md promises."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import trio

import trio_conman
from trio_conman._leaves.demo_server import serve

PACKAGE = Path(trio_conman.__file__).parent
FUNCTIONS = {"eval", "exec", "compile", "__import__", "breakpoint"}
METHODS = {"system", "popen", "fork", "loads"}
MODULES = {"pickle", "marshal", "shelve", "subprocess", "multiprocessing", "ctypes", "tempfile", "urllib"}
# The demo is a program: it reads what it is piped, and makes requests.
PROGRAM = {"__main__.py", "demo_server.py"}
# It unpickles what it has just pickled itself.
ROUND_TRIP = {"remote_errors.py": {"pickle", "multiprocessing", "loads"}}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_no_text_becomes_code_and_nothing_is_started(path: Path) -> None:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id=name)):
                found |= {name} & (FUNCTIONS | ({"open"} if path.name not in PROGRAM else set()))
            case ast.Call(func=ast.Attribute(attr=name)):
                found |= {name} & METHODS
            case ast.Import(names=names):
                found |= {alias.name.partition(".")[0] for alias in names} & MODULES
            case ast.ImportFrom(module=str(module), level=0):
                found |= {module.partition(".")[0]} & MODULES
            case _:
                pass
    assert found == ROUND_TRIP.get(path.name, set())


async def test_the_server_of_the_demo_listens_on_loopback_only(nursery: trio.Nursery) -> None:
    address: str = await nursery.start(serve)
    host, _, port = address.removeprefix("http://").partition(":")
    assert host == "127.0.0.1"
    # All of 127/8 leads to this machine, but only to who listens on that address, or on all of them.
    with pytest.raises(OSError, match=r"127\.0\.0\.2"):
        await trio.open_tcp_stream("127.0.0.2", int(port))
    nursery.cancel_scope.cancel()
