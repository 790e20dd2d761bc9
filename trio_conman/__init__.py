"""trio-conman: run many tasks on trio under a limit, with retries and deadlines, and lose none of them."""

from ._base.errors import ConManClosedError, TaskCancelledError
from ._base.outcomes import Failure, Outcome, RetriedError, StopReason, Success
from ._books.completed import as_completed
from ._books.handles import Task, TaskHandle
from ._books.instruments import Instrument, LoggingInstrument
from ._engine.current import current_task
from ._limits.adaptive import AdaptiveLimit, AdaptiveLimitStatistics
from ._limits.keyed import KeyedLimit, KeyStatistics
from ._limits.rate import RateLimiter, RateLimiterStatistics
from ._manager.conman import ConMan
from ._manager.views import ConManStatistics
from ._policy.budget import RetryBudget, RetryBudgetStatistics
from ._policy.retry import RetriableError, RetryConfig
from ._policy.retry_after import parse_retry_after

__all__ = [
    "AdaptiveLimit",
    "AdaptiveLimitStatistics",
    "ConMan",
    "ConManClosedError",
    "ConManStatistics",
    "Failure",
    "Instrument",
    "KeyStatistics",
    "KeyedLimit",
    "LoggingInstrument",
    "Outcome",
    "RateLimiter",
    "RateLimiterStatistics",
    "RetriableError",
    "RetriedError",
    "RetryBudget",
    "RetryBudgetStatistics",
    "RetryConfig",
    "StopReason",
    "Success",
    "Task",
    "TaskCancelledError",
    "TaskHandle",
    "as_completed",
    "current_task",
    "parse_retry_after",
]

# Public names say where to import them from, in tracebacks, reprs and pickles (trio does the same).
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
for _function in (as_completed, current_task, parse_retry_after):
    _function.__module__ = __name__
