#!/usr/bin/env bash
# triotp 0.2.1: a `gen_server.call` that times out ends the server, with all it knows, as soon as it would answer.
#
# A call whose `timeout` is over closes the channel for its answer. When the server is done and sends it there, that
# raises ClosedResourceError within the server's own loop, which takes it for a failure of the server. So one impatient
# caller costs all others what the server knew: its supervisor starts it again, with what `init` gives. Whoever waits
# for a turn at that moment gets ClosedResourceError, too. When it happens more often than restarts are allowed, by
# default three in 5 s, the node ends. In Erlang, which it follows, an answer that is late does the server no harm.
# Nothing is logged by default. It helps to send the answer with `gen_server.reply` within `try`, and to return NoReply.
# 0.3.1, for Python 3.13, has the same loop.
#
# Seen, of a server that counts its calls, what callers get:
#   all are patient: 1, 2, 3, 4; and the next: 5
#   the third is not: 1, 2, TooSlowError, ClosedResourceError; and the next: 1
#   the third is not, it replies by itself: 1, 2, TooSlowError, 4; and the next: 5
#   the third is not, no restart: the node ends with ClosedResourceError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check Logbook==1.10.1 tenacity==8.5.0 trio==0.19.0 \
  trio-util==0.7.0 triotp==0.2.1
cat >server.py <<'PY'
import sys

import trio
from trio import MemorySendChannel
from triotp import gen_server


async def start(itself: bool) -> None:
    await gen_server.start(sys.modules[__name__], itself, name="server")


async def init(itself: bool) -> tuple[bool, int]:
    return itself, 0


async def handle_call(wait: trio.Event | None, caller: MemorySendChannel, state: tuple[bool, int]) -> tuple:
    itself, calls = state
    if wait is not None:
        await wait.wait()
    state = itself, calls + 1
    if not itself:
        return gen_server.Reply(calls + 1), state
    try:
        await gen_server.reply(caller, calls + 1)
    except trio.ClosedResourceError:
        pass
    return gen_server.NoReply(), state
PY
cat >client.py <<'PY'
import trio
from trio.testing import wait_all_tasks_blocked
from triotp import application, gen_server


async def start(given: tuple[float | None, list[str], list[str]]) -> None:
    timeout, answers, later = given

    async def call(to: list[str], wait: trio.Event | None = None, timeout: float | None = None) -> None:
        try:
            answer = await gen_server.call("server", wait, timeout)
        except (trio.TooSlowError, trio.ClosedResourceError) as error:
            answer = type(error).__name__
        to.append(str(answer))

    await wait_all_tasks_blocked()
    await call(answers)
    await call(answers)
    done = trio.Event()
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as third:
            third.start_soon(call, answers, done, timeout)
            await wait_all_tasks_blocked()
            nursery.start_soon(call, answers)
            await wait_all_tasks_blocked()
            if timeout is None:
                done.set()
        done.set()
    await wait_all_tasks_blocked()
    await call(later)
    await application.stop("server")
PY
cat >main.py <<'PY'
from importlib.metadata import version

import client
import server
import trio
from triotp import node
from triotp.application import app_spec
from triotp.supervisor import options


def run(timeout: float | None, itself: bool, restarts: int) -> str:
    answers: list[str] = []
    later: list[str] = []
    supervised = app_spec(server, itself, opts=options(max_restarts=restarts))
    try:
        node.run([supervised, app_spec(client, (timeout, answers, later), permanent=False)])
    except trio.ClosedResourceError as error:
        return f"the node ends with {type(error).__name__}"
    return f"{', '.join(answers)}; and the next: {', '.join(later)}"


print(f"triotp {version('triotp')}")
print(f"all are patient: {run(None, False, 3)}")
print(f"the third is not: {run(0.01, False, 3)}")
print(f"the third is not, it replies by itself: {run(0.01, True, 3)}")
print(f"the third is not, no restart: {run(0.01, False, 0)}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "triotp 0.2.1
all are patient: 1, 2, 3, 4; and the next: 5
the third is not: 1, 2, TooSlowError, ClosedResourceError; and the next: 1
the third is not, it replies by itself: 1, 2, TooSlowError, 4; and the next: 5
the third is not, no restart: the node ends with ClosedResourceError" ]
