#!/usr/bin/env bash
# djangorestframework 3.18.3: what its limit per minute has refused is taken off the limit per day all the same.
#
# The documentation shows two throttles side by side, one for bursts and one for the day. Each request is shown to both,
# also when one has refused it, and the other counts it as let in. So a client that asks 1,000 times in its first minute
# has had 60 answers, and is out for the rest of the day: its 1,000 are gone. One that sends again what was refused
# comes there by itself. Flask-Limiter 4.1.1 stops at the first limit that refuses. Whoever minds has to make one
# throttle of the two. The clock is set by hand here. The script fails when it is not so any more.
#
# Seen, with 60 in a minute and 1,000 in a day, 1,000 requests at once, and one more two minutes later:
#   djangorestframework: 60 let in, then 429 with Retry-After: 86280
#   Flask-Limiter: 60 let in, then 200
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check Django==5.2.19 Flask==3.1.3 Flask-Limiter==4.1.1 \
  djangorestframework==3.18.3
cat >main.py <<'PY'
from collections.abc import Callable
from importlib.metadata import version
from unittest.mock import patch

import django
import flask
from django.conf import settings
from flask_limiter import Limiter

now = 1_800_000_000.0
settings.configure(
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_THROTTLE_RATES": {"burst": "60/minute", "sustained": "1000/day"},
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup()

from rest_framework.response import Response  # noqa: E402
from rest_framework.test import APIRequestFactory  # noqa: E402
from rest_framework.throttling import AnonRateThrottle  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class Burst(AnonRateThrottle):
    scope = "burst"
    timer = staticmethod(lambda: now)


class Sustained(AnonRateThrottle):
    scope = "sustained"
    timer = staticmethod(lambda: now)


class View(APIView):
    throttle_classes = [Burst, Sustained]

    def get(self, request: object) -> Response:
        return Response()


def of_flask() -> Callable[[], flask.Response]:
    app = flask.Flask("service")
    limits = ["60/minute", "1000/day"]
    limiter = Limiter(lambda: "client", app=app, default_limits=limits, storage_uri="memory://", strategy="moving-window")
    app.get("/")(lambda: "")
    assert limiter.enabled
    client = app.test_client()
    return lambda: client.get("/")


def tell(name: str, ask: Callable[[], object]) -> None:
    global now
    let_in = sum(ask().status_code == 200 for _ in range(1000))
    now += 120
    answer = ask()
    then = f"{answer.status_code}"
    if answer.status_code == 429:
        then += f" with Retry-After: {answer.headers['Retry-After']}"
    print(f"{name}: {let_in} let in, then {then}")


view = View.as_view()
requests = APIRequestFactory()
tell(f"djangorestframework {version('djangorestframework')}", lambda: view(requests.get("/")))
with patch("time.time", lambda: now):
    tell(f"Flask-Limiter {version('Flask-Limiter')}", of_flask())
PY
seen=$(venv/bin/python -W ignore main.py)
echo "$seen"
[ "$seen" = "djangorestframework 3.18.3: 60 let in, then 429 with Retry-After: 86280
Flask-Limiter 4.1.1: 60 let in, then 200" ]
