#!/usr/bin/env bash
# litequeue 0.9: the first `maxsize` that a queue was opened with holds for its file for good.
#
# The limit is kept by a trigger in the database, which is made when the queue is opened and there is none of its name.
# The number is in its text. So a queue that is opened with a larger limit, or with none, refuses what is over the old
# one, while `full()` and `maxsize` speak of the new one: it is not full, and nothing can be put. The error is one of
# sqlite3. And a limit that was once given binds all programs which open the file, also those that do not know of it.
# Only `DROP TRIGGER` helps. So a queue that runs full in production does not get larger by a larger number in the
# settings.
#
# Seen, five jobs put into each:
#   opened with maxsize=2: 2 put, then IntegrityError: Max queue length reached: 2; full() True
#   opened again with maxsize=10: 0 put, then IntegrityError: Max queue length reached: 2; full() False
#   opened again without maxsize: 0 put, then IntegrityError: Max queue length reached: 2; full() False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check litequeue==0.9
cat >main.py <<'PY'
from importlib.metadata import version
from sqlite3 import DatabaseError

from litequeue import LiteQueue


def put_five(**options: object) -> str:
    queue = LiteQueue("jobs.sqlite3", **options)
    put = 0
    try:
        for number in range(5):
            queue.put(f"job {number}")
            put += 1
        end = "no error"
    except DatabaseError as error:
        end = f"{type(error).__name__}: {error}"
    words = f"{put} put, then {end}; full() {queue.full()}"
    queue.close()
    return words


print(f"litequeue {version('litequeue')}")
print(f"opened with maxsize=2: {put_five(maxsize=2)}")
print(f"opened again with maxsize=10: {put_five(maxsize=10)}")
print(f"opened again without maxsize: {put_five()}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "litequeue 0.9
opened with maxsize=2: 2 put, then IntegrityError: Max queue length reached: 2; full() True
opened again with maxsize=10: 0 put, then IntegrityError: Max queue length reached: 2; full() False
opened again without maxsize: 0 put, then IntegrityError: Max queue length reached: 2; full() False" ]
