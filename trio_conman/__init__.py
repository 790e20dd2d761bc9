"""trio-conman: run many tasks on trio under a limit, with retries and deadlines, and lose none of them."""

from ._budget import RetryBudget, RetryBudgetStatistics
from ._conman import ConMan
from ._errors import ConManClosedError, TaskCancelledError
from ._handles import Task, TaskHandle
from ._instruments import Instrument, LoggingInstrument
from ._outcomes import Failure, Outcome, RetriedError, StopReason, Success
from ._rate import RateLimiter, RateLimiterStatistics
from ._retry import RetriableError, RetryConfig
from ._retry_after import parse_retry_after
from ._views import ConManStatistics

__all__ = [
    "ConMan",
    "ConManClosedError",
    "ConManStatistics",
    "Failure",
    "Instrument",
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
    "parse_retry_after",
]

# Public names say where to import them from, in tracebacks, reprs and pickles (trio does the same).
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
parse_retry_after.__module__ = __name__
