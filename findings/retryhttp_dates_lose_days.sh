#!/usr/bin/env bash
# retryhttp 1.5.0: told to come back at a date that is a day and a minute away, it comes back after the minute.
#
# Of the time until the date of a Retry-After it takes `seconds`, what is left of it beside whole days. So the days are
# gone, and so are the parts of a second: as dates are whole seconds, nearly each wait for a date ends before it, and
# the next answer is a refusal again. `wait_max` is compared with what is left: a date a day and a minute away is under
# the default of 120 s, where the same time as a number is not. A client that is out of its quota for the day uses up
# its tries in minutes. A number of seconds is waited for as it is. Time is set by hand here, and the waits are written
# down.
#
# Seen, with wait_max=None:
#   a date in 60 s: waits 60 s
#   a date in 59.75 s: waits 59 s
#   a date in 86460 s: waits 60 s
#   a date in 172800.5 s: waits 0 s
#   the number 86460: waits 86460 s
# by default:
#   a date in 86460 s: waits 60 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check freezegun==1.5.5 httpx==0.28.1 retryhttp==1.5.0 tenacity==9.2.1
cat >main.py <<'PY'
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from importlib.metadata import version

import httpx
import retryhttp
from freezegun import freeze_time

DATE = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def waits(after: str, seconds: float, **options: object) -> str:
    answers = iter([httpx.Response(429, headers={"Retry-After": after}), httpx.Response(200)])
    client = httpx.Client(transport=httpx.MockTransport(lambda request: next(answers)))
    waited = []

    @retryhttp.retry(sleep=waited.append, wait_rate_limited=retryhttp.wait_retry_after(**options))
    def get() -> httpx.Response:
        return client.get("http://service.invalid").raise_for_status()

    with freeze_time(DATE - timedelta(seconds=seconds)):
        assert get().status_code == 200
    return f"waits {waited[0]:g} s"


date = format_datetime(DATE, usegmt=True)
print(f"retryhttp {version('retryhttp')}, with wait_max=None:")
for seconds in 60, 59.75, 86460, 172800.5:
    print(f"a date in {seconds} s: {waits(date, seconds, wait_max=None)}")
print(f"the number 86460: {waits('86460', 0, wait_max=None)}")
print("by default:")
print(f"a date in 86460 s: {waits(date, 86460)}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "retryhttp 1.5.0, with wait_max=None:
a date in 60 s: waits 60 s
a date in 59.75 s: waits 59 s
a date in 86460 s: waits 60 s
a date in 172800.5 s: waits 0 s
the number 86460: waits 86460 s
by default:
a date in 86460 s: waits 60 s" ]
