#!/usr/bin/env bash
# deadpool-executor 2026.7.1: an error comes back with other arguments than it was raised with.
#
# The worker makes a new error of the same type whose first argument is the text of the old one with the
# traceback below it. So `errno` of an OSError is a text, a comparison with errno.ENOENT is false, and the key of
# a KeyError is gone. The standard library's ProcessPoolExecutor gives the error as it was, with the traceback
# from the other process as its cause.
#
# Seen:
#   deadpool: FileNotFoundError, errno is ENOENT: False; KeyError, its key: False
#   standard: FileNotFoundError, errno is ENOENT: True; KeyError, its key: True
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install -q --disable-pip-version-check deadpool-executor==2026.7.1
cat >"$directory/errors.py" <<'PY'
import errno
from concurrent.futures import ProcessPoolExecutor

import deadpool


def open_it():
    open("/there/is/no/such/file")


def look_up():
    {}["a key"]


if __name__ == "__main__":
    for name, kind in ("deadpool", deadpool.Deadpool), ("standard", ProcessPoolExecutor):
        with kind(max_workers=1) as pool:
            missing = pool.submit(open_it).exception()
            no_key = pool.submit(look_up).exception()
        print(
            f"{name}: {type(missing).__name__}, errno is ENOENT: {missing.errno == errno.ENOENT};"
            f" {type(no_key).__name__}, its key: {no_key.args == ('a key',)}"
        )
PY
seen=$(cd "$directory" && venv/bin/python errors.py)
echo "deadpool-executor 2026.7.1"
echo "$seen"
[ "$seen" = "deadpool: FileNotFoundError, errno is ENOENT: False; KeyError, its key: False
standard: FileNotFoundError, errno is ENOENT: True; KeyError, its key: True" ]
