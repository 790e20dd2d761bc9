"""Which tests are about which module: `mutants` runs those for a change of it, in this order."""

from __future__ import annotations

from pathlib import Path

# The tests of what runs attempts and ends tasks.
ATTEMPTS = (
    "retrying retrying_slots retrying_stopped deadlines deadlines_clean_up deadlines_together "
    "retrying_spent exceptions exceptions_cancelled reasons instruments instruments_paused adaptive_limit "
    "rate_attempts pool journal_tasks shutdown_drop"
)
# The tests of the journal's file; those of its tasks have one in memory.
JOURNAL = "journal journal_file journal_tasks journal_faults"
HTTP = "http http_anything http_responses"
KEYED = "keyed keyed_lanes keyed_random deadlock_keys"
# What all of a manager is in.
WHOLE = "simulation protection"
MAPS = f"map map_slots map_leaving map_workers map_sources map_closing map_idle map_kept map_turns {WHOLE}"
# The modules, and where their tests are.
NEAREST = {
    "_policy.backoff": "backoff",
    "_policy.budget": "budget",
    "_base.checks": "checks",
    "_policy.decision": "retry retry_groups retry_limits retrying retrying_config retrying_stopped reasons",
    "_base.errors": "errors exports",
    "_base.explained": "mistakes retry_config",
    "_base.log": "hostile_objects",
    "_base.outcomes": "outcomes texts exports",
    "_engine.stream": f"deadlock {MAPS}",
    "_policy.retry": "retry_config retriable_error exports",
    "_policy.retry_after": "retry_after",
    "_base.texts": "texts",
    "_engine.execution": f"{ATTEMPTS} {WHOLE}",
    "_engine.endings": f"{ATTEMPTS} {WHOLE}",
    "_books.ledger": f"conman start_soon results max_errors wait_running {WHOLE}",
    "_engine.drawn": MAPS,
    "_engine.fed": MAPS,
    "_engine.pool": f"pool map_workers deadlines threads {WHOLE}",
    "_engine.recalls": f"journal_tasks keyed_journal {WHOLE}",
    "_books.records": f"journal journal_tasks {WHOLE}",
    "_books.instruments": f"instruments instruments_anywhere {WHOLE}",
    "_books.unseen": "unseen",
    "_limits.adaptive": f"adaptive_limit adaptive {WHOLE}",
    "_limits.rings": f"rings deadlock line_depth shutdown_rings {WHOLE}",
    "_manager.conman": f"conman results wait_running max_errors {WHOLE}",
    "_manager.doors": f"conman start_soon callables {WHOLE}",
    "_manager.mistakes": "mistakes attributes",
    "_manager.opening": f"opening {WHOLE}",
    "_manager.views": "results",
    "_policy.adaptive": "adaptive",
    "_base.stack": "deadlock line_depth",
    "_leaves.journal_file": JOURNAL,
    "_leaves.journal_index": f"journal_index {JOURNAL}",
    "_leaves.journal_keys": JOURNAL,
    "_leaves.journal_reader": JOURNAL,
    "_leaves.journal_records": f"{JOURNAL} protection",
    "_leaves.journal_store": JOURNAL,
    "_leaves.journal_table": JOURNAL,
    "_leaves.journal_values": JOURNAL,
    "_leaves.journal_writer": JOURNAL,
    "_base.outlast": "interrupts protection",
    "_books.collector": f"collector send_to {WHOLE}",
    "_limits.line": f"line line_shared line_turns pause rings {WHOLE}",
    "_engine.mapping": MAPS,
    "_manager.map_block": f"map_block map_kept {WHOLE}",
    "_engine.feeder": f"map_nesting {MAPS}",
    "_engine.source": f"map_nesting {MAPS}",
    "_engine.block": f"conman_block conman_closed conman_wait shutdown shutdown_grace wait_running {WHOLE}",
    "_books.handles": f"handles callables priority instruments wait_running {WHOLE}",
    "_limits.rate": f"rate rate_attempts rate_pause rate_hand rate_service {WHOLE}",
    "_limits.cost": "rate_costs",
    "_limits.forecast": "rate_late rate_several",
    "_limits.marks": "rate_service",
    "_limits.meter": f"rate rate_costs rate_service {WHOLE}",
    "_limits.permits": f"rate rate_several rate_costs {WHOLE}",
    "_limits.stored": "rate_stored",
    "_limits.turns": f"rate rate_several rate_late pause_rate {WHOLE}",
    "_limits.waiters": f"rate rate_late pause_rate {WHOLE}",
    "_base.hidden": "help",
    "_books.completed": f"as_completed {WHOLE}",
    "_engine.current": "current_task",
    "_engine.maps": "map",
    "_limits.asking": f"rate_costs keyed {WHOLE}",
    "_limits.envoy": f"line_shared line line_turns keyed {WHOLE}",
    "_limits.keyed": f"{KEYED} {WHOLE}",
    "_limits.keyring": f"{KEYED} keyed_journal {WHOLE}",
    "_limits.keys": f"{KEYED} {WHOLE}",
    "_limits.lanes": f"{KEYED} {WHOLE}",
    "_limits.ranked": f"ranked priority {KEYED} {WHOLE}",
    "_leaves.executor_calls": "executors_futures executors_cancelled executors_errors executors",
    "_leaves.executor_kinds": "executors_kinds executors_loky executors",
    "_leaves.handover": "executors_handover executors_cancelled executors",
    "_leaves.http_headers": HTTP,
    "_leaves.remote_errors": "executors_errors executors_futures",
    "_leaves.restarting": "executors_restarting executors_kinds",
    "batches": "batches",
    "executors": "executors_kinds executors_restarting executors_cancelled executors",
    "http": HTTP,
    "journal": JOURNAL,
    "_manager.hall": f"conman start_soon callables max_queued keyed {WHOLE}",
}


def paths_of(names: str) -> list[str]:
    return [f"tests/test_{name}.py" for name in names.split()]


def path_of(module: str) -> Path:
    """Where a module is in the tree, by its name below the package."""
    return Path("trio_conman", *module.split(".")).with_suffix(".py")


def module_at(path: Path) -> str:
    """The module there."""
    return ".".join(path.with_suffix("").parts[1:])
