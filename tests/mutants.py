"""Changes the core bit by bit, and shows the changes that no test finds.

    python -m tests.mutants            # all modules, for hours
    python -m tests.mutants _policy.budget    # one of them

cosmic-ray makes the changes, a copy of the tree for each processor, in an order drawn at random, so that the
share found so far is a fair guess at any moment. The tests nearest to the changed module run first, then the
others of the core. A test that takes longer than `HANG` counts as one that fails.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, WorkResult

from tests.nearest import ELSEWHERE, NEAREST, SLOW, module_at, paths_of

ROOT = Path(__file__).parent.parent
HANG = 10.0  # seconds


def path_of(module: str) -> Path:
    return Path("trio_conman", *module.split(".")).with_suffix(".py")


def tests_for(module: str) -> list[list[str]]:
    """The tests that run for a change of a module: the nearest ones, and the others."""
    nearest = paths_of(NEAREST[module])
    slow = [path for path in paths_of(SLOW) if path not in nearest]
    rest = {str(path) for path in Path("tests").glob("test_*.py")} - {*nearest, *slow, *paths_of(ELSEWHERE)}
    return [nearest, [*sorted(rest), *slow]]


def run_tests(module: str) -> int:
    """What cosmic-ray calls, in a copy of the tree that has a change."""
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    limits = [f"--timeout={HANG}", "--timeout-method=thread"]
    for paths in tests_for(module):
        if subprocess.run([*pytest, *limits, *paths], capture_output=True, check=False).returncode:
            return 1
    return 0


def enter_copy(directory: str) -> None:
    """Make the copy that a process works in."""
    copy = Path(directory, str(os.getpid()))
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "_build", "__pycache__"))
    os.chdir(copy)
    # Compiled once: what runs on a changed module writes no compiled files, lest it find an older one.
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", "tests"]
    writing = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(collect, env=writing, capture_output=True, check=False)
    for compiled in [*Path("trio_conman").rglob("__pycache__")]:
        shutil.rmtree(compiled)


def try_out(mutation: MutationSpec) -> WorkResult:
    command = shlex.join([sys.executable, "-m", "tests.mutants", "--test", module_at(mutation.module_path)])
    result: WorkResult = mutate_and_test([mutation], command, timeout=900)
    return result


def mutations_of(modules: list[str], directory: str) -> list[MutationSpec]:
    with use_db(str(Path(directory, "work.sqlite")), WorkDB.Mode.create) as database:
        init([path_of(module) for module in modules], database, {})
        found = [mutation for item in database.work_items for mutation in item.mutations]
    # Nearly all | stand in annotations, which are not evaluated.
    found = [each for each in found if "BinaryOperator_BitOr" not in each.operator_name]
    return random.Random(1).sample(found, len(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="*", choices=[*NEAREST, []], help="default: all")
    parser.add_argument("--test", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    modules = given.modules or list(NEAREST)
    if given.test:
        sys.exit(run_tests(*modules))
    os.chdir(ROOT)
    killed = 0
    with (
        tempfile.TemporaryDirectory() as directory,
        ProcessPoolExecutor(initializer=enter_copy, initargs=(directory,)) as pool,
    ):
        # Else a test that fails anyway would find each change.
        if pool.submit(run_tests, modules[0]).result():
            sys.exit("the tests fail without a change")
        mutations = mutations_of(modules, directory)
        for done, future in enumerate(as_completed([pool.submit(try_out, each) for each in mutations]), 1):
            result = future.result()
            killed += result.is_killed
            if not result.is_killed:
                print(result.diff, flush=True)
            if done % 20 == 0 or done == len(mutations):
                print(f"{done} of {len(mutations)} changes: {killed} found, {killed / done:.1%}", flush=True)


if __name__ == "__main__":
    main()
