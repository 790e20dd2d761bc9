"""Changes the package bit by bit, and shows the changes that no test finds.

    python -m tests.mutants            # all modules, for hours
    python -m tests.mutants _policy.budget _limits.meter    # some of them
    python -m tests.mutants --most 500    # so many changes, drawn at random

cosmic-ray makes the changes, in an order drawn at random, so that the share found so far is a fair guess at
any moment. For a change only the tests nearest to its module run: what others might find does not count. They
run in forks of a process that has imported what they need; there is one for each processor, in a copy of the
tree. A test that takes longer than `HANG` counts as one that fails.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from difflib import unified_diff
from importlib import import_module
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

from tests.nearest import NEAREST, module_at, path_of, paths_of

ROOT = Path(__file__).parent.parent
HANG = 10  # seconds, of one test
HANG_ALL = 60  # of a file
# What takes long to import, but for the package itself: each fork has a changed one.
IMPORTED = "attrs pytest sqlite3 trio trio.testing"


def enter_copy(directory: str) -> None:
    """Make the copy of the tree that a process works in, with all compiled."""
    copy = Path(directory, str(os.getpid()))
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "_build", "__pycache__"))
    os.chdir(copy)
    sys.path[0] = os.environ["PYTHONPATH"] = str(copy)
    for each in IMPORTED.split():
        import_module(each)
    gc.freeze()
    sys.dont_write_bytecode = False
    run_tests(["--collect-only", "tests"])
    # From here on each file may be a changed one.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def run_tests(arguments: Sequence[str]) -> bool:
    """Whether the tests pass, in a fork."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setsid()
            signal.alarm(HANG_ALL)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nowhere, stream)
            limits = [f"--timeout={HANG}", "--timeout-method=thread"]
            status = import_module("pytest").main(["-x", "-p", "no:cacheprovider", *limits, *arguments])
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def passes(module: str) -> bool:
    """Whether all tests of a module do: one file after another, since most changes are found by the first."""
    return all(run_tests([path]) for path in paths_of(NEAREST[module]))


def try_out(mutation: MutationSpec) -> str | None:
    """The change, if no test finds it."""
    path = mutation.module_path
    source = path.read_text()
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    changed = mutate_code(source, operator, mutation.occurrence)
    # Python takes what it has compiled from a file of the same second and size.
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
    path.write_text(changed)
    found = not passes(module_at(path))
    path.write_text(source)
    lines = unified_diff(source.splitlines(), changed.splitlines(), str(path), lineterm="", n=2)
    return None if found else "\n".join(lines)


def may_matter(mutation: MutationSpec) -> bool:
    """Whether tests can find it at all."""
    changed = mutation.module_path.read_text().splitlines()[mutation.start_pos[0] - 1].strip()
    return not (
        # Nearly all | stand in annotations, which are not evaluated.
        "BinaryOperator_BitOr" in mutation.operator_name
        # What has no equality of its own, as all that is compared so, is equal to itself only.
        or mutation.operator_name.endswith(("Is_Eq", "IsNot_NotEq"))
        # Only type checkers read these.
        or changed in {"@final", "@overload"}
    )


def mutations_of(modules: Sequence[str], directory: str) -> list[MutationSpec]:
    with use_db(str(Path(directory, "work.sqlite")), WorkDB.Mode.create) as database:
        init([path_of(module) for module in modules], database, {})
        found = [mutation for item in database.work_items for mutation in item.mutations]
    found = [each for each in found if may_matter(each)]
    return random.Random(1).sample(found, len(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="*", choices=[*NEAREST, []], help="default: all")
    parser.add_argument("--most", type=int, help="so many changes at most (default: all)")
    given = parser.parse_args()
    modules = given.modules or list(NEAREST)
    os.chdir(ROOT)
    killed = 0
    with (
        tempfile.TemporaryDirectory() as directory,
        ProcessPoolExecutor(initializer=enter_copy, initargs=(directory,)) as pool,
    ):
        # Else a test that fails anyway would find each change.
        for module, fine in zip(modules, pool.map(passes, modules), strict=True):
            if not fine:
                sys.exit(f"the tests of {module} fail without a change")
        mutations = mutations_of(modules, directory)[: given.most]
        for done, future in enumerate(as_completed([pool.submit(try_out, each) for each in mutations]), 1):
            change = future.result()
            killed += change is None
            if change:
                print(change, flush=True)
            if done % 20 == 0 or done == len(mutations):
                print(f"{done} of {len(mutations)} changes: {killed} found, {killed / done:.1%}", flush=True)


if __name__ == "__main__":
    main()
