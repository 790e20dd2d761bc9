"""trio-conman: run many tasks on trio under a limit, with retries and deadlines, and lose none of them."""

from ._conman import ConMan
from ._errors import ConManClosedError, TaskCancelledError
from ._handles import Task, TaskHandle
from ._outcomes import Failure, Outcome, RetriedError, StopReason, Success
from ._retry import RetriableError, RetryConfig
from ._views import ConManStatistics

__all__ = [
    "ConMan",
    "ConManClosedError",
    "ConManStatistics",
    "Failure",
    "Outcome",
    "RetriableError",
    "RetriedError",
    "RetryConfig",
    "StopReason",
    "Success",
    "Task",
    "TaskCancelledError",
    "TaskHandle",
]

# Public names say where to import them from, in tracebacks, reprs and pickles (trio does the same).
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
