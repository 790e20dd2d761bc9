#!/usr/bin/env bash
# SQLite 3.54.1, WAL: a connection opened for reading only makes two files beside the database, and leaves them.
#
# Whoever may write removes `-wal` and `-shm` when the last connection closes. Whoever opened the database with
# SQLITE_OPEN_READONLY makes them too, as it needs them to read, but does not remove them. To look into a database
# and leave no trace, open it for reading and writing, and set `PRAGMA query_only=ON`.
# Run with apsw 3.54.1.0; the script fails when it is not so any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check apsw==3.54.1.0
cat >main.py <<'PY'
import apsw
from pathlib import Path

def files() -> str:
    return " ".join(sorted(path.name for path in Path().glob("data*")))

def read(flags: int) -> str:
    connection = apsw.Connection("data", flags=flags)
    connection.execute("PRAGMA query_only=ON")
    connection.execute("SELECT * FROM t").fetchall()
    connection.close()
    return files()

connection = apsw.Connection("data")
connection.execute("PRAGMA journal_mode=WAL").fetchall()
connection.execute("CREATE TABLE t (x)")
connection.close()
print(f"SQLite {apsw.sqlite_lib_version()}, closed: {files()}")
print(f"read with SQLITE_OPEN_READWRITE: {read(apsw.SQLITE_OPEN_READWRITE)}")
print(f"read with SQLITE_OPEN_READONLY: {read(apsw.SQLITE_OPEN_READONLY)}")
PY
seen=$(venv/bin/python main.py)
echo "$seen"
expected='SQLite 3.54.1, closed: data
read with SQLITE_OPEN_READWRITE: data
read with SQLITE_OPEN_READONLY: data data-shm data-wal'
[ "$seen" = "$expected" ]
