#!/usr/bin/env bash
# executorlib 1.11.0: an error of a call says nothing of where it was raised.
#
# The error that comes from the worker has its type and arguments, but neither a traceback nor a cause with the
# text of one, so that the function and the line where it was raised are lost. The standard library's
# ProcessPoolExecutor gives that text as the cause.
#
# Seen:
#   executorlib: ValueError('no'), tells of fail_here: False
#   standard: ValueError('no'), tells of fail_here: True
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install -q --disable-pip-version-check executorlib==1.11.0 \
  cloudpickle==3.1.3 pyzmq==27.2.0
cat >"$directory/errors.py" <<'PY'
import traceback
from concurrent.futures import ProcessPoolExecutor

from executorlib import SingleNodeExecutor


def fail_here():
    raise ValueError("no")


if __name__ == "__main__":
    executorlib = SingleNodeExecutor(max_workers=1, hostname_localhost=True)
    for name, pool in ("executorlib", executorlib), ("standard", ProcessPoolExecutor(1)):
        with pool:
            error = pool.submit(fail_here).exception()
        told = "in fail_here" in "".join(traceback.format_exception(error))
        print(f"{name}: {error!r}, tells of fail_here: {told}")
PY
seen=$(cd "$directory" && PATH="$directory/venv/bin:$PATH" venv/bin/python errors.py)
echo "executorlib 1.11.0"
echo "$seen"
[ "$seen" = "executorlib: ValueError('no'), tells of fail_here: False
standard: ValueError('no'), tells of fail_here: True" ]
