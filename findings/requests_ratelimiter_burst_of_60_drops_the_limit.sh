#!/usr/bin/env bash
# requests-ratelimiter 0.10.0: with `burst=60` the limit per second is gone, and with `burst=5` it lets in 25 at once.
#
# `burst` is documented as the number of requests that may be sent before the limit per second sets in. In fact it is a
# factor of both sides: 5 per second with a burst of 5 is 25 in 5 s, all of which may be sent at once. And the limits are
# put into a table with their length as the key. With a burst of 60 the limit per second is 60 s long, as the one per
# minute is; the latter comes later, and where it was not given, it is 0, which means none. What is left is the limit per
# hour, if there is one: with no warning, all requests of the hour may be sent at once. With no other limit the first
# request fails, with words that do not speak of `burst`. Nothing is sent here, an adapter answers.
#
# Seen, with 5 per second and 10,000 per hour, of 1,000 requests at once:
#   burst 1 (the default): 5 sent
#   burst 5: 25 sent
#   burst 59: 295 sent
#   burst 60: 1000 sent
#   burst 61: 305 sent
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyrate-limiter==4.5.1 requests==2.34.2 \
  requests-ratelimiter==0.10.0
cat >main.py <<'PY'
from importlib.metadata import version

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.exceptions import Timeout
from requests_ratelimiter import LimiterSession

REQUESTS = 1000


class Answers(BaseAdapter):
    def send(self, request: PreparedRequest, **options: object) -> Response:
        response = Response()
        response.status_code, response.url, response.request = 200, request.url, request
        return response

    def close(self) -> None:
        pass


def sent(**burst: int) -> int:
    with LimiterSession(per_second=5, per_hour=10_000, max_delay=0, **burst) as session:
        session.mount("http://", Answers())
        for number in range(REQUESTS):
            try:
                session.get("http://service.invalid/")
            except Timeout:
                return number
    return REQUESTS


print(f"requests-ratelimiter {version('requests-ratelimiter')}, with 5 per second and 10,000 per hour:")
print(f"burst 1 (the default): {sent()} sent")
for burst in 5, 59, 60, 61:
    print(f"burst {burst}: {sent(burst=burst)} sent")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "requests-ratelimiter 0.10.0, with 5 per second and 10,000 per hour:
burst 1 (the default): 5 sent
burst 5: 25 sent
burst 59: 295 sent
burst 60: 1000 sent
burst 61: 305 sent" ]
