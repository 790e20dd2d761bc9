"""The soak: hours of trouble in a few minutes of real time.

    python -m tests.soak [--minutes 3]

A server with faults and a client with managers run beside each other, each in a process of its own, over real
connections. Meanwhile the client is sent signals: SIGUSR1, on which it pauses or resumes its managers,
SIGTERM, on which it shuts them down, and SIGINT, on which it cancels them; after both it opens new ones. Now
and then it kills a process of its own pool. In the end the client prints its books, and the status is 1 where
something is wrong with them; see client.py.
"""

import argparse
import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SIGNALS = [
    *(signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR1, signal.SIGINT),
]
PAUSE = 1.3  # seconds from one signal to the next


def started(module: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", "-m", module, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=3.0)
    seconds = parser.parse_args().minutes * 60
    if not Path("/proc/self/fd").exists():
        sys.exit("the soak reads /proc, as Linux has it")
    with started("tests.soak.server") as server:
        assert server.stdout is not None and server.stdin is not None
        port = server.stdout.readline().strip()
        with started("tests.soak.client", port, str(seconds)) as client:
            assert client.stdout is not None and client.stdin is not None
            client.stdout.readline()  # from here on it catches signals
            end = time.monotonic() + seconds
            sent = 0
            for each in itertools.cycle(SIGNALS):
                time.sleep(PAUSE)
                if time.monotonic() >= end or client.poll() is not None:
                    break
                client.send_signal(each)
                sent += 1
            try:
                said, _ = client.communicate(f"{sent}\n", timeout=120)
            except subprocess.TimeoutExpired:
                client.kill()
                said, _ = client.communicate()
                said += "the client did not end"
        server.stdin.close()
        if server.wait(timeout=30):
            said += "the server has failed"
    print(said)
    return int(client.returncode != 0 or server.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
