#!/usr/bin/env bash
# aiocache 0.12.3 with numpy 2.4.6: two arrays that differ in the middle have one entry in the cache.
#
# The key of a call is the text of its arguments, as `str` makes it. Of an array of more than 1,000 numbers numpy writes
# the first three and the last three, and of each number eight digits. So a call with other data gets the result of the
# first, for as long as that is in the cache, and nothing tells of it. With few numbers, as in a test, all is well.
# Whoever caches calls with arrays needs a `key_builder`, such as a hash of their bytes. Tables and tensors of other
# packages, whose text is cut as well, are no better.
#
# Seen, the sum of two series of numbers that differ in one number in the middle:
#   an array of 1000 numbers: 0 and 5
#   an array of 1001 numbers: 0 and 0
#   an array of one number, 1 and 1.000000001: 1.0 and 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aiocache==0.12.3 numpy==2.4.6
cat >main.py <<'PY'
import asyncio
from importlib.metadata import version

import numpy
from aiocache import cached


def column(size: int, number: int) -> numpy.ndarray:
    numbers = numpy.zeros(size, dtype=int)
    numbers[size // 2] = number
    return numbers


@cached()
async def total(numbers: numpy.ndarray) -> object:
    return numbers.sum().item()


async def main() -> None:
    print(", ".join(f"{name} {version(name)}" for name in ("aiocache", "numpy")))
    for size in 1000, 1001:
        first, second = [await total(column(size, number)) for number in (0, 5)]
        print(f"an array of {size} numbers: {first} and {second}")
    first, second = [await total(numpy.array([number])) for number in (1.0, 1.000000001)]
    print(f"an array of one number, 1 and 1.000000001: {first} and {second}")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "$seen"
[ "$seen" = "aiocache 0.12.3, numpy 2.4.6
an array of 1000 numbers: 0 and 5
an array of 1001 numbers: 0 and 0
an array of one number, 1 and 1.000000001: 1.0 and 1.0" ]
