#!/usr/bin/env bash
# pytest-trio 0.8.0 beside anyio 4.16.0: a test of anyio that says [asyncio] runs on trio, and passes.
#
# anyio brings a plugin of pytest that runs a test marked `anyio` once for each backend. With `trio_mode = true` in the
# settings pytest-trio takes all async tests, those too. Both variants are run and reported, `[asyncio]` and
# `[trio]`, and both are on trio: nothing was tested on asyncio, and nothing says so. Without trio_mode each is on its own.
#
# Seen:
#   trio_mode: test_it[asyncio] on trio, test_it[trio] on trio; 2 passed
#   no trio_mode: test_it[asyncio] on asyncio, test_it[trio] on trio; 2 passed
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check anyio==4.16.0 pytest==9.2.0 pytest-trio==0.8.0 \
  sniffio==1.3.1 trio==0.35.0
cat >test_one.py <<'PY'
import pytest
import sniffio


@pytest.mark.anyio
async def test_it(request):
    with open("seen", "a") as file:
        file.write(f"{request.node.name} on {sniffio.current_async_library()}\n")
PY
run() {
  rm -f seen
  printf '[pytest]\n%s\n' "$2" >pytest.ini
  passed=$(venv/bin/python -m pytest -q | grep -o '[0-9]* passed')
  echo "$1: $(sort seen | paste -sd, | sed 's/,/, /'); $passed"
}
seen=$(run trio_mode "trio_mode = true"; run "no trio_mode" "")
echo "pytest-trio 0.8.0, anyio 4.16.0"
echo "$seen"
[ "$seen" = "trio_mode: test_it[asyncio] on trio, test_it[trio] on trio; 2 passed
no trio_mode: test_it[asyncio] on asyncio, test_it[trio] on trio; 2 passed" ]
