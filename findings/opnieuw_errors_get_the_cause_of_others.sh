#!/usr/bin/env bash
# opnieuw 4.0.0: an error that is raised after a retry has lost its own cause, and has the error of the last try instead.
#
# It puts the error of the try before as the cause of each error, also where that has a cause of its own, and where it is
# one that is not retried. So of `raise ServiceError from OSError` the OSError of the first try alone is left. The
# traceback says that this was the direct cause of what came later, and what did cause the last error, which is the one
# that ended the call, is nowhere in it. Whoever looks at `__cause__` to tell a full disk from a lost connection is
# wrong from the second try on. tenacity 9.2.1 with `reraise=True` leaves the cause as it is. No time passes here.
#
# Seen, of a call that fails by a lost connection first, and by a full disk then:
#   opnieuw: ServiceError, caused by ServiceError, caused by ConnectionResetError
#   opnieuw, an error that is not retried: KeyError, caused by ServiceError, caused by ConnectionResetError
#   tenacity: ServiceError, caused by OSError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opnieuw==4.0.0 tenacity==9.2.1
cat >main.py <<'PY'
from collections.abc import Callable
from importlib.metadata import version

import opnieuw
import tenacity
from opnieuw.test_util import retry_immediately


class ServiceError(Exception):
    pass


def failing(last: type[Exception]) -> Callable[[], None]:
    tries = iter([(ServiceError, ConnectionResetError("reset by peer")), (last, OSError("disk full"))])

    def save() -> None:
        error, cause = next(tries)
        raise error("not saved") from cause

    return save


def causes(call: Callable[[], None]) -> str:
    try:
        call()
    except (ServiceError, KeyError) as error:
        names = []
        while error:
            names.append(type(error).__name__)
            error = error.__cause__
        return ", caused by ".join(names)


retry = opnieuw.retry(retry_on_exceptions=ServiceError, max_calls_total=2)
with retry_immediately():
    print(f"opnieuw {version('opnieuw')}: {causes(retry(failing(ServiceError)))}")
    print(f"opnieuw, an error that is not retried: {causes(retry(failing(KeyError)))}")
retry = tenacity.retry(stop=tenacity.stop_after_attempt(2), reraise=True)
print(f"tenacity {version('tenacity')}: {causes(retry(failing(ServiceError)))}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "opnieuw 4.0.0: ServiceError, caused by ServiceError, caused by ConnectionResetError
opnieuw, an error that is not retried: KeyError, caused by ServiceError, caused by ConnectionResetError
tenacity 9.2.1: ServiceError, caused by OSError" ]
