#!/usr/bin/env bash
# shelved-cache 0.5.0: an entry of a TTLCache that has run out is back at the next start, for its whole time again.
#
# A PersistentCache writes each entry to its file with no time, and puts the whole file into the new cache at the start.
# So each start gives all entries a whole new life. And when cachetools drops what has run out, the file keeps it, as
# that goes through no method that PersistentCache knows of. A program that is started more often than its `ttl` never
# asks again, one that is started less often uses a value of any age, and the file has each key that there ever was. So
# keep the time beside the value, and look at it. The clock is set by hand here; each start is a process of its own.
#
# Seen, with a ttl of 60 s:
#   at 0 s: put 1.1, found 1.1; entries in the file: 1
#   at 61 s, in the same process: found None; entries in the file: 1
#   at 86400 s, new start: found 1.1; entries in the file: 1
#   at 8640000 s, new start: found 1.1; entries in the file: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cachetools==6.2.6 shelved-cache==0.5.0
cat >main.py <<'PY'
import sys
from importlib.metadata import version

from cachetools import TTLCache
from shelved_cache import PersistentCache

now = float(sys.argv[1])
rates = PersistentCache(TTLCache, "rates", maxsize=10, ttl=60, timer=lambda: now)


def found() -> str:
    return f"found {rates.get('euro')}; entries in the file: {len(rates)}"


if now:
    print(f"at {now:.0f} s, new start: {found()}")
else:
    print(f"shelved-cache {version('shelved-cache')}, with a ttl of 60 s")
    rates["euro"] = 1.1
    print(f"at 0 s: put 1.1, {found()}")
    now = 61
    rates.expire()
    print(f"at 61 s, in the same process: {found()}")
rates.close()
PY
seen=$(for now in 0 86400 8640000; do venv/bin/python main.py "$now"; done)
echo "$seen"
[ "$seen" = "shelved-cache 0.5.0, with a ttl of 60 s
at 0 s: put 1.1, found 1.1; entries in the file: 1
at 61 s, in the same process: found None; entries in the file: 1
at 86400 s, new start: found 1.1; entries in the file: 1
at 8640000 s, new start: found 1.1; entries in the file: 1" ]
