#!/usr/bin/env bash
# tenacity 9.2.1, stamina 26.1.0, urllib3 2.8.0: once the delay is at its longest, the jitter is gone.
#
# All three add the random part first and cut to the maximum then. So from the retry on whose delay without it reaches
# the maximum, when a server has been down for long, nothing is random any more. And who asks for an even delay with some
# jitter, by a maximum that is the first delay, gets none at all: 1,000 callers that have failed in one moment come back
# in one moment, each time. The formulas of tenacity and stamina say so to who looks for it; the text of urllib3 says that
# jitter makes the sleep longer. backoff 2.2.1 cuts first, and its delays stay random.
#
# Seen:
#   different delays of 1,000 callers before retries 1 to 7:
#   tenacity, from 1 s to 10 s, jitter 1 s: 1000, 1000, 1000, 1000, 1, 1, 1
#   stamina, from 1 s to 10 s, jitter 1 s: 1000, 1000, 1000, 1000, 1, 1, 1
#   urllib3, from 1 s to 10 s, jitter 1 s: 1, 1000, 1000, 1000, 1000, 1, 1
#   backoff, from 1 s to 10 s, full jitter: 1000, 1000, 1000, 1000, 1000, 1000, 1000
#   stamina, from 5 s to 5 s, jitter 1 s: 1, 1, 1, 1, 1, 1, 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tenacity==9.2.1 stamina==26.1.0 urllib3==2.8.0 backoff==2.2.1
cat >main.py <<'PY'
import time
from collections.abc import Callable
from unittest.mock import patch

import backoff
import stamina
import tenacity
import urllib3
from urllib3.util import Retry

CALLERS = 1000
RETRIES = 7


def fail() -> None:
    raise ConnectionError


def of_tenacity() -> None:
    wait = tenacity.wait_exponential_jitter(multiplier=1, max=10, jitter=1)
    # It binds the function that sleeps when it is imported.
    retrying = tenacity.Retrying(wait=wait, stop=tenacity.stop_after_attempt(RETRIES + 1), sleep=lambda s: time.sleep(s))
    retrying(fail)


def of_stamina(initial: float, longest: float) -> None:
    stamina.retry(
        on=ConnectionError, attempts=RETRIES + 1, timeout=None, wait_initial=initial, wait_max=longest, wait_jitter=1
    )(fail)()


def of_urllib3() -> None:
    retry = Retry(total=RETRIES, backoff_factor=0.5, backoff_max=10, backoff_jitter=1)
    for _ in range(RETRIES):
        retry = retry.increment("GET", "/", response=urllib3.HTTPResponse(status=503))
        time.sleep(retry.get_backoff_time())


def of_backoff() -> None:
    backoff.on_exception(backoff.expo, ConnectionError, max_tries=RETRIES + 1, max_value=10)(fail)()


def tell(name: str, call: Callable[[], None]) -> None:
    callers = []
    for _ in range(CALLERS):
        with patch("time.sleep") as sleep:
            try:
                call()
            except (ConnectionError, tenacity.RetryError):
                pass
        callers.append([each.args[0] for each in sleep.call_args_list])
    different = [len(set(delays)) for delays in zip(*callers, strict=True)]
    print(f"{name}: {', '.join(map(str, different))}")


stamina.instrumentation.set_on_retry_hooks([])
print("different delays of 1,000 callers before retries 1 to 7:")
tell("tenacity, from 1 s to 10 s, jitter 1 s", of_tenacity)
tell("stamina, from 1 s to 10 s, jitter 1 s", lambda: of_stamina(1, 10))
tell("urllib3, from 1 s to 10 s, jitter 1 s", of_urllib3)
tell("backoff, from 1 s to 10 s, full jitter", of_backoff)
tell("stamina, from 5 s to 5 s, jitter 1 s", lambda: of_stamina(5, 5))
PY
seen=$(venv/bin/python main.py)
echo "tenacity 9.2.1, stamina 26.1.0, urllib3 2.8.0, backoff 2.2.1"
echo "$seen"
[ "$seen" = "different delays of 1,000 callers before retries 1 to 7:
tenacity, from 1 s to 10 s, jitter 1 s: 1000, 1000, 1000, 1000, 1, 1, 1
stamina, from 1 s to 10 s, jitter 1 s: 1000, 1000, 1000, 1000, 1, 1, 1
urllib3, from 1 s to 10 s, jitter 1 s: 1, 1000, 1000, 1000, 1000, 1, 1
backoff, from 1 s to 10 s, full jitter: 1000, 1000, 1000, 1000, 1000, 1000, 1000
stamina, from 5 s to 5 s, jitter 1 s: 1, 1, 1, 1, 1, 1, 1" ]
