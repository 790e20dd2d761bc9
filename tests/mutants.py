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

ROOT = Path(__file__).parent.parent
HANG = 10.0  # seconds
# The tests of what runs attempts and ends tasks.
ATTEMPTS = (
    "protection retrying retrying_slots retrying_stopped deadlines deadlines_clean_up deadlines_together "
    "exceptions exceptions_cancelled reasons"
)
# The tests of the journal's file; those of its tasks have one in memory.
JOURNAL = "journal journal_file journal_faults journal_tasks"
# The modules, and where their tests are.
NEAREST = {
    "_policy.backoff": "backoff",
    "_policy.budget": "budget",
    "_base.checks": "checks",
    "_policy.decision": "retry retry_groups retry_limits retrying retrying_config retrying_stopped reasons",
    "_base.errors": "errors exports",
    "_base.log": "hostile_objects",
    "_base.outcomes": "outcomes texts exports",
    "_engine.stream": "map deadlock map_idle map_turns",
    "_policy.retry": "retry_config retriable_error exports",
    "_policy.retry_after": "retry_after",
    "_base.texts": "texts",
    "_engine.execution": ATTEMPTS,
    "_engine.endings": ATTEMPTS,
    "_books.ledger": "protection conman start_soon",
    "_engine.drawn": "map_workers map_sources map_idle",
    "_engine.fed": "map_workers map_sources map_closing",
    "_engine.pool": "pool map_workers",
    "_engine.recalls": "journal_tasks",
    "_books.records": "journal journal_tasks",
    "_books.instruments": "instruments instruments_anywhere",
    "_books.unseen": "unseen",
    "_limits.adaptive": "adaptive_limit adaptive",
    "_limits.rings": "rings deadlock line_depth shutdown_rings",
    "_manager.conman": "conman results wait_running max_errors",
    "_manager.doors": "conman start_soon callables",
    "_manager.mistakes": "mistakes attributes",
    "_manager.opening": "opening",
    "_manager.views": "results",
    "_policy.adaptive": "adaptive",
    "_base.stack": "deadlock line_depth",
    "_leaves.journal_file": JOURNAL,
    "_leaves.journal_index": f"journal_index {JOURNAL}",
    "_leaves.journal_keys": JOURNAL,
    "_leaves.journal_reader": JOURNAL,
    "_leaves.journal_records": JOURNAL,
    "_leaves.journal_store": JOURNAL,
    "_leaves.journal_table": JOURNAL,
    "_leaves.journal_values": JOURNAL,
    "_leaves.journal_writer": JOURNAL,
    "_base.outlast": "interrupts",
    "_books.collector": "collector send_to",
    "_limits.line": "line pause",
    "_engine.mapping": "map map_slots map_leaving map_turns",
    "_manager.map_block": "map_block map_kept",
    "_engine.feeder": "map_sources map_closing map_nesting",
    "_engine.source": "map_sources map_closing map_nesting",
    "_engine.block": "conman_block conman_closed shutdown",
    "_books.handles": "handles callables",
    "_limits.rate": "rate rate_attempts rate_pause rate_hand rate_service",
    "_limits.cost": "rate_costs",
    "_limits.forecast": "rate_late rate_several",
    "_limits.marks": "rate_service",
    "_limits.meter": "rate rate_costs rate_service",
    "_limits.permits": "rate rate_several rate_costs",
    "_limits.stored": "rate_stored",
    "_limits.turns": "rate rate_several rate_late pause_rate",
    "_limits.waiters": "rate rate_late pause_rate",
}
# What takes seconds runs last.
SLOW = "retry rate start_soon cycles simulation hostile sweep_streams sweep"
# Of what stands beside the core, or of the project.
ELSEWHERE = (
    "adaptive_services benchmarks demo demo_journal docs environments executors executors_cancelled "
    "executors_dask executors_errors executors_futures executors_handover executors_kinds executors_loky "
    "executors_memory executors_restarting http http_anything http_real http_responses httpx journal_program "
    "layers limiters machine packaging planted progress progress_unread rate_machine recipes reports "
    "security service signals telemetry timelines tried"
)


def paths_of(names: str) -> list[str]:
    return [f"tests/test_{name}.py" for name in names.split()]


def path_of(module: str) -> Path:
    return Path("trio_conman", *module.split(".")).with_suffix(".py")


def module_at(path: Path) -> str:
    return ".".join(path.with_suffix("").parts[1:])


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
    for path in paths_of(" ".join([*NEAREST.values(), SLOW, ELSEWHERE])):
        if not Path(path).exists():
            parser.error(f"there is no {path}")
    rooms = [path for path in Path("trio_conman").glob("_*/*.py") if path.parent.name != "_leaves"]
    for module in rooms:
        if module.stem != "__init__" and module_at(module) not in NEAREST:
            parser.error(f"nobody says where the tests of {module} are")
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
