"""Which tests are about which module of the core: `mutants` runs those first for a change of it."""

from __future__ import annotations

from pathlib import Path

# The tests of what runs attempts and ends tasks.
ATTEMPTS = (
    "protection retrying retrying_slots retrying_stopped deadlines deadlines_clean_up deadlines_together "
    "exceptions exceptions_cancelled reasons"
)
# The tests of the journal's file; those of its tasks have one in memory.
JOURNAL = "journal journal_file journal_faults journal_tasks"
KEYED = "keyed keyed_lanes keyed_random deadlock_keys"
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
    "_base.hidden": "help",
    "_books.completed": "as_completed",
    "_engine.current": "current_task",
    "_engine.maps": "map",
    "_limits.asking": "rate_costs keyed",
    "_limits.envoy": "line_shared line keyed",
    "_limits.keyed": KEYED,
    "_limits.keyring": f"{KEYED} keyed_journal",
    "_limits.keys": KEYED,
    "_limits.lanes": KEYED,
    "_limits.ranked": f"ranked priority {KEYED}",
    "_manager.hall": "conman start_soon callables max_queued keyed",
}
# What takes seconds runs last.
SLOW = "retry rate start_soon cycles simulation hostile sweep_streams sweep"
# Of what stands beside the core, or of the project.
ELSEWHERE = (
    "adaptive_services benchmarks demo demo_journal docs environments executors executors_cancelled "
    "executors_dask executors_errors executors_futures executors_handover executors_kinds executors_loky "
    "executors_memory executors_restarting findings help http http_anything http_real http_responses httpx "
    "journal_program layers limiters machine nearest neighbours packaging planted progress progress_lately "
    "progress_unread rate_machine recipes reports "
    "security service signals telemetry timelines tried what_goes_wrong"
)


def paths_of(names: str) -> list[str]:
    return [f"tests/test_{name}.py" for name in names.split()]


def module_at(path: Path) -> str:
    """The name of a module, below the package, by its path in the tree."""
    return ".".join(path.with_suffix("").parts[1:])
