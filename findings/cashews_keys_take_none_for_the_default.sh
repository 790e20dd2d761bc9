#!/usr/bin/env bash
# cashews 7.6.0: a call with `limit=None` gets the cached result of one that leaves `limit` at its default.
#
# The key of a call is made of its arguments as text, where None is the empty text. Where all arguments are given by name,
# those that are left out are empty as well, and not their defaults. So of a search with `limit=10` by default, all of
# `search(text="trio")`, `search(text="trio", limit=None)` and `search(text="trio", limit="")` are one entry, and whoever
# asks first decides what the others get. Nor does the text tell a number from its digits, True from "true", bytes from a
# text, or a list from its elements joined by colons. A function whose result depends on any of these needs a `key` of
# its own, and for None no `key` helps, as it is empty there, too: the argument has to be another one.
#
# Seen, in this order, each line with a cache that is empty at first:
#   limit left out: limit 10; limit=None: limit 10; by place, None: limit 10
#   limit=None: limit None; limit left out: limit None; by place, left out: limit 10
#   1: int; '1': int
#   True: bool; 'true': bool
#   b'trio': bytes; 'trio': bytes
#   [1, 2]: list; (1, 2): list; '1:2': list
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cashews==7.6.0
cat >main.py <<'PY'
import asyncio
from importlib.metadata import version

from cashews import cache

cache.setup("mem://")


@cache(ttl="1h")
async def search(text: str, limit: int | None = 10) -> str:
    return f"limit {limit}"


@cache(ttl="1h")
async def kind(value: object) -> str:
    return type(value).__name__


async def main() -> None:
    print(f"cashews {version('cashews')}")
    left_out, none = await search(text="trio"), await search(text="trio", limit=None)
    print(f"limit left out: {left_out}; limit=None: {none}; by place, None: {await search('trio', None)}")
    await cache.clear()
    none, left_out = await search(text="trio", limit=None), await search(text="trio")
    print(f"limit=None: {none}; limit left out: {left_out}; by place, left out: {await search('trio')}")
    for values in [1, "1"], [True, "true"], [b"trio", "trio"], [[1, 2], (1, 2), "1:2"]:
        await cache.clear()
        print("; ".join([f"{value!r}: {await kind(value)}" for value in values]))


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "cashews 7.6.0
limit left out: limit 10; limit=None: limit 10; by place, None: limit 10
limit=None: limit None; limit left out: limit None; by place, left out: limit 10
1: int; '1': int
True: bool; 'true': bool
b'trio': bytes; 'trio': bytes
[1, 2]: list; (1, 2): list; '1:2': list" ]
