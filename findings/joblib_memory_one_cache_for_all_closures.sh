#!/usr/bin/env bash
# joblib 1.6.0: of two functions that one function has made, the second gets the cached results of the first.
#
# Memory knows a function by its module, its name and its source, and a call by its arguments. What a function has from
# around it is in none of these, so that functions made by the same lines share their results, wrong as they are, with no
# warning; and the files are there in the next run, too. The page that tells of the limits of Memory has lambdas, methods
# and callable objects, and not this. So pass all that the result depends on as an argument.
#
# Seen:
#   made for pounds: 5 -> 5 pounds; made for euros: 5 -> 5 pounds
#   in the next run, made for euros: 5 -> 5 pounds
#   warnings: 0
#   with an argument: 5 -> 5 pounds, 5 -> 5 euros
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check joblib==1.6.0
cat >prices.py <<'PY'
from collections.abc import Callable

from joblib import Memory

memory = Memory("cache", verbose=0)


def made_for(unit: str) -> Callable[[int], str]:
    @memory.cache
    def price(amount: int) -> str:
        return f"{amount} {unit}"

    return price


@memory.cache
def price(amount: int, unit: str) -> str:
    return f"{amount} {unit}"
PY
cat >first.py <<'PY'
import warnings

from prices import made_for

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pounds, euros = made_for("pounds"), made_for("euros")
    print(f"made for pounds: 5 -> {pounds(5)}; made for euros: 5 -> {euros(5)}")
with open("warnings", "w") as file:
    print(f"warnings: {len(caught)}", file=file)
PY
cat >second.py <<'PY'
from prices import made_for, price

print(f"in the next run, made for euros: 5 -> {made_for('euros')(5)}")
print(open("warnings").read(), end="")
print(f"with an argument: 5 -> {price(5, 'pounds')}, 5 -> {price(5, 'euros')}")
PY
seen=$(venv/bin/python first.py; venv/bin/python second.py)
echo "joblib 1.6.0"
echo "$seen"
[ "$seen" = "made for pounds: 5 -> 5 pounds; made for euros: 5 -> 5 pounds
in the next run, made for euros: 5 -> 5 pounds
warnings: 0
with an argument: 5 -> 5 pounds, 5 -> 5 euros" ]
