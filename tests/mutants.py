"""Changes the package bit by bit, and shows the changes that no test finds.

    python -m tests.mutants            # all modules, for hours
    python -m tests.mutants _policy.budget _limits.meter    # some of them
    python -m tests.mutants --most 20    # so many changes of each module, drawn at random

cosmic-ray makes the changes. The modules take turns, each with its own in an order drawn at random: so the
shares found so far, of each module, are a fair guess at any moment. All tests run once, to see which run
what. For a change those run that run the changed statement, `BUDGET` seconds of them at most, those first in
whose file the most do. They run in forks of a process that has imported what they need; there is one for each
processor, in a copy of the tree. A test that takes longer than `HANG` counts as one that fails.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import random
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from difflib import unified_diff
from importlib import import_module
from itertools import accumulate, zip_longest
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

from tests.reach import Choosing, Measuring, Reach, file_of, is_overload

ROOT = Path(__file__).parent.parent
HANG = 10  # seconds, of one test
BUDGET = 40  # seconds, as long as the tests take when they are measured
# What takes long to import, but for the package itself: each fork has a changed one.
IMPORTED = "attrs coverage pytest sqlite3 trio trio.testing"
# What these run they run in other processes.
OUTSIDE = (
    "benchmarks demo demo_journal docs environments findings layers limiters neighbours packaging planted "
    "progress_unread recipes security tried what_goes_wrong"
)
DEMO = "^demo_|^__main__$"
# These look at functions without running them, or at all that run.
ALWAYS = {f"tests/test_{name}.py" for name in ("exports", "signatures", "protection")}
OUTPUT = Path("output.txt")


def enter_copy(directory: str) -> None:
    """Make the copy of the tree that a process works in, with all compiled."""
    copy = Path(directory, str(os.getpid()))
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "_build", "__pycache__"))
    os.chdir(copy)
    sys.path[0] = os.environ["PYTHONPATH"] = str(copy)
    for each in IMPORTED.split():
        import_module(each)
    gc.freeze()


def in_fork(files: list[str], plugin: object, seconds: float, *options: str) -> bool:
    """Whether the tests pass, in so many seconds."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setsid()
            signal.setitimer(signal.ITIMER_REAL, seconds)
            with Path(os.devnull).open("rb") as nothing, OUTPUT.open("wb") as output:
                for stream, file in enumerate([nothing, output, output]):
                    os.dup2(file.fileno(), stream)
            options = ("-x", "-p", "no:cacheprovider", *options)
            status = import_module("pytest").main([*options, *files], [plugin])
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def measure(files: list[str]) -> Reach:
    """Run the tests of these files on what is unchanged; from here on each module may be a changed one.

    Raises:
        RuntimeError: one of them fails: it would find each change.
    """
    sys.dont_write_bytecode = False
    result = Path("reach.pickle")
    if not in_fork(files, Measuring(result), 900):
        raise RuntimeError(f"a test fails without a change:\n{OUTPUT.read_text()[-10_000:]}")
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    reach: Reach = pickle.loads(result.read_bytes())
    return reach


def try_out(mutation: MutationSpec, steps: list[list[str]]) -> str | None:
    """The change, if no test finds it."""
    path = mutation.module_path
    source = path.read_text()
    kind = get_operator(mutation.operator_name)  # type: ignore[no-untyped-call]  # not annotated there
    operator, at = kind(**mutation.operator_args), mutation.occurrence
    changed: str = mutate_code(source, operator, at)  # type: ignore[no-untyped-call]  # nor is this
    # Python takes what it has compiled from a file of the same second and size.
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
    path.write_text(changed)
    limits = (3 * BUDGET, f"--timeout={HANG}", "--timeout-method=thread")
    passes = all(in_fork(sorted({*map(file_of, tests)}), Choosing(tests), *limits) for tests in steps)
    path.write_text(source)
    lines = unified_diff(source.splitlines(), changed.splitlines(), str(path), lineterm="", n=2)
    return "\n".join(lines) if passes else None


def steps_for(mutation: MutationSpec, reach: Reach) -> list[list[str]]:
    """The tests to run, one list after the other."""
    files = reach.by_file(reach.tests_of(mutation.module_path, mutation.start_pos[0]))
    rest = sorted([test for tests in files[2:] for test in tests], key=lambda test: reach.seconds[test])
    within = sum(each <= BUDGET for each in accumulate(reach.seconds[test] for test in rest))
    always = [test for test in reach.seconds if file_of(test) in ALWAYS]
    return [step for step in [*files[:2], rest[:within], always] if step]


def may_matter(mutation: MutationSpec) -> bool:
    """Whether tests can find it at all."""
    row, column = mutation.start_pos
    source = mutation.module_path.read_text()
    line = source.splitlines()[row - 1]
    return not (
        # Nearly all | stand in annotations. What is compared by `is` has no equality of its own.
        mutation.operator_name.endswith(("Is_Eq", "IsNot_NotEq"))
        or "BinaryOperator_BitOr" in mutation.operator_name
        # Only type checkers read these.
        or line.strip() == "@final"
        or is_overload(source, row)
        # Nothing makes, compares, or shows so what attrs is told not to provide for.
        or line[:column].endswith(("init=", "eq=", "repr="))
    )


def mutations_of(modules: list[Path], directory: str, most: int | None) -> list[MutationSpec]:
    """So many changes of each module at most, or all, by turns."""
    with use_db(str(Path(directory, "work.sqlite")), WorkDB.Mode.create) as database:
        init(modules, database, {})
        found = [mutation for item in database.work_items for mutation in item.mutations]
    by_module: dict[Path, list[MutationSpec]] = {module: [] for module in modules}
    for each in random.Random(1).sample(found, len(found)):
        if may_matter(each):
            by_module[each.module_path].append(each)
    turns = zip_longest(*[changes[:most] for changes in by_module.values()])
    return [each for turn in turns for each in turn if each is not None]


def shares(found: Mapping[str, list[bool]]) -> str:
    """How many of the changes of each module were found, and of all; the least share first."""
    rows = sorted(found.items(), key=lambda row: (sum(row[1]) / len(row[1]), row[0]))
    everything = [each for changes in found.values() for each in changes]
    return "\n".join(
        f"{sum(changes):5} of {len(changes):5} {sum(changes) / len(changes):6.1%}  {module}"
        for module, changes in [*rows, ("all", everything)]
    )


def main() -> None:
    os.chdir(ROOT)
    paths = [path for path in sorted(Path("trio_conman").rglob("*.py")) if not re.search(DEMO, path.stem)]
    known = {".".join(path.with_suffix("").parts[1:]): path for path in paths}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="*", choices=[*known, []], help="default: all")
    parser.add_argument("--most", type=int, help="so many changes of each module (default: all)")
    given = parser.parse_args()
    tests = [
        str(path) for path in sorted(Path("tests").glob("test_*.py")) if path.stem[5:] not in OUTSIDE.split()
    ]
    processes = os.cpu_count() or 1
    names = {path: name for name, path in known.items()}
    found: dict[str, list[bool]] = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        ProcessPoolExecutor(processes, initializer=enter_copy, initargs=(directory,)) as pool,
    ):
        reach = Reach()
        for each in pool.map(measure, [tests[start::processes] for start in range(processes)]):
            reach.add(each)
        mutations = mutations_of([known[each] for each in given.modules or known], directory, given.most)
        tried = {pool.submit(try_out, each, steps_for(each, reach)): each for each in mutations}
        for done, future in enumerate(as_completed(tried), 1):
            change = future.result()
            found.setdefault(names[tried[future].module_path], []).append(change is None)
            if change:
                print(change, flush=True)
            if done % 100 == 0 or done == len(mutations):
                print(f"{done} of {len(mutations)} changes\n{shares(found)}", flush=True)


if __name__ == "__main__":
    main()
