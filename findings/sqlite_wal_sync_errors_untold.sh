#!/usr/bin/env bash
# SQLite 3.54.1, WAL, synchronous=NORMAL: a disk whose syncs fail is told to nobody, not even by close().
#
# In this mode a commit does no sync, and checkpoints do. Those that SQLite makes by itself, every 1,000 pages and
# at the end, keep their errors to themselves. Here every sync fails from the first commit on, as fsync() with EIO:
# 300 commits and the close report nothing, though more than 100 syncs have failed. With synchronous=FULL the first
# commit raises IOError. So a program that wants to hear of it has to make its checkpoints itself, or sync each commit.
# Run with apsw 3.54.1.0; needs a C compiler and Linux; the script fails when it is not so any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check apsw==3.54.1.0
cat >syncs.c <<'C'
#include <errno.h>
#include <unistd.h>
static int failed;
int syncs_failed(void) { return failed; }
static int fail(void) {
    if (access("broken", F_OK) != 0) return 0;
    failed++;
    errno = EIO;
    return -1;
}
int fsync(int fd) { (void)fd; return fail(); }
int fdatasync(int fd) { (void)fd; return fail(); }
C
cc -shared -fPIC -o syncs.so syncs.c
cat >main.py <<'PY'
import ctypes, sys
from pathlib import Path
import apsw

mode = sys.argv[1]
connection = apsw.Connection(f"{mode}.db")
connection.execute("PRAGMA journal_mode=WAL").fetchall()
connection.execute(f"PRAGMA synchronous={mode}")
connection.execute("CREATE TABLE t (x)")
Path("broken").touch()
commits, error = 0, None
try:
    for commits in range(1, 301):
        connection.execute("INSERT INTO t VALUES (zeroblob(40000))")
    connection.close()
except apsw.Error as exc:
    error, commits = type(exc).__name__, commits - 1
many = ctypes.CDLL(None).syncs_failed() > 100
print(f"SQLite {apsw.sqlite_lib_version()}, {mode}: {commits} commits, error: {error}, syncs failed: {'> 100' if many else 'few'}")
PY
run() { rm -f broken; LD_PRELOAD="$folder/syncs.so" venv/bin/python main.py "$1"; }
seen=$(run NORMAL; run FULL)
echo "$seen"
expected='SQLite 3.54.1, NORMAL: 300 commits, error: None, syncs failed: > 100
SQLite 3.54.1, FULL: 0 commits, error: IOError, syncs failed: few'
[ "$seen" = "$expected" ]
