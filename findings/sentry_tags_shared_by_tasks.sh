#!/usr/bin/env bash
# sentry-sdk 2.75.0: a tag that one task sets is sent with the events of all others, on trio and on asyncio.
#
# The scopes are held in context variables, and each task has a context of its own; yet `set_tag` writes to the
# isolation scope, an object that all tasks of a program share, unless an integration or `isolation_scope()` gives
# them their own. So three tasks that each set one tag, and each send one message, send all three tags three times.
#
# Seen:
#   trio: {'a': 'abc', 'b': 'abc', 'c': 'abc'}
#   trio, in isolation_scope(): {'a': 'a', 'b': 'b', 'c': 'c'}
#   asyncio: {'a': 'abc', 'b': 'abc', 'c': 'abc'}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check sentry-sdk==2.75.0 trio==0.35.0
cat >main.py <<'PY'
import asyncio
import contextlib
import sys

import sentry_sdk
import trio

_, name, scope = sys.argv
sent = {}


def keep(event, hint):
    sent[event["message"]] = "".join(sorted(event["tags"]))


async def work(letter, both):
    with sentry_sdk.isolation_scope() if scope == "isolated" else contextlib.nullcontext():
        sentry_sdk.set_tag(letter, "set")
        await both()
        sentry_sdk.capture_message(letter)


async def on_trio():
    waiting = 0
    go = trio.Event()

    async def both():
        nonlocal waiting
        waiting += 1
        if waiting == 3:
            go.set()
        await go.wait()

    async with trio.open_nursery() as nursery:
        for letter in "abc":
            nursery.start_soon(work, letter, both)


async def on_asyncio():
    barrier = asyncio.Barrier(3)
    await asyncio.gather(*(work(letter, barrier.wait) for letter in "abc"))


sentry_sdk.init(before_send=keep)
if name == "trio":
    trio.run(on_trio)
else:
    asyncio.run(on_asyncio())
print(f"{name}{', in isolation_scope()' if scope == 'isolated' else ''}: {dict(sorted(sent.items()))}")
PY
run() { venv/bin/python main.py "$1" "$2"; }
seen=$(run trio shared; run trio isolated; run asyncio shared)
echo "sentry-sdk 2.75.0"
echo "$seen"
[ "$seen" = "trio: {'a': 'abc', 'b': 'abc', 'c': 'abc'}
trio, in isolation_scope(): {'a': 'a', 'b': 'b', 'c': 'c'}
asyncio: {'a': 'abc', 'b': 'abc', 'c': 'abc'}" ]
