"""How long a program starts that imports the package, or trio, or nothing.

Each is a child process, in interleaved rounds; the time is that of the whole process, in milliseconds.
Nothing is subtracted. The least of the rounds is the best guess at what the machine needs when nobody
disturbs it.

Run it with ``python -m tests.benchmarks.bench_import``; ``--rounds`` changes how often.
"""

import time

from .measuring import Table, child, compared, options, report, rounds_of

UNIT = "ms"
PROGRAMS = {"nothing": "pass", "import trio": "import trio", "import trio_conman": "import trio_conman"}


def measure(program: str) -> float:
    """Milliseconds from the start of the process to its end."""
    start = time.perf_counter()
    child("-P", "-c", program)  # -P: what is installed, not what lies in the current directory
    return (time.perf_counter() - start) * 1000


def main() -> None:
    given = options(__doc__, full={"rounds": 15}, quick={"rounds": 1})
    measures = {name: lambda program=program: measure(program) for name, program in PROGRAMS.items()}
    rounds_of(measures, 1)  # the first one compiles, and fills the caches
    rounds = rounds_of(measures, given.rounds)
    bases = {"import trio = 1": "import trio"}
    rows = compared(rounds, UNIT, bases)
    report({"import": Table("Import", f"rounds: {given.rounds}", [UNIT, *bases], rows)}, given.json)


if __name__ == "__main__":
    main()
