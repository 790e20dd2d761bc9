"""Kills a job with a journal at random moments, and looks at what the next run finds.

    python -m tests.soak.kills [--kills 200] [--seed N]

Half of the jobs are durable: none of their outcomes that were published may be run again. Of the others those
may that were published in the last 50 ms before the kill. Every value is compared, and none may be recorded
twice. The status is 1 where something is wrong.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.journal_faults import kill_again_and_again

ITEMS, TIMES = 3000, 10  # of a job: how many items, and how often it is killed
FLUSHED_AFTER = 0.05  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    rng = random.Random(given.seed)
    wrong = 0
    for number in range(given.kills // TIMES):
        options = ["--durable"] if number % 2 else []
        with tempfile.TemporaryDirectory() as folder:
            lost = kill_again_and_again(Path(folder, "items"), ITEMS, TIMES, rng, *options)
        ages = [when_killed - published for published, when_killed in lost]
        oldest = f", the oldest {1000 * max(ages):.0f} ms old" if ages else ""
        kind = "durable" if options else "default"
        print(f"{kind}: {TIMES} kills, {len(lost)} published outcomes ran again{oldest}", flush=True)
        wrong += len(ages) if options else sum(age > FLUSHED_AFTER for age in ages)
    print(f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
