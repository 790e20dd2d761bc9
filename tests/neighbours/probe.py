"""Runs one probe: ``python -m tests.neighbours.probe MODULE FUNCTION [GIVEN...]`` prints what it has seen."""

from __future__ import annotations

import importlib
import json
import sys

import trio


def main() -> None:
    name, function, *given = sys.argv[1:]
    if "in_loop" in given:
        importlib.import_module("trio_asyncio")  # before the driver, which may keep what it finds in asyncio
    module = importlib.import_module(f"tests.neighbours.probes.{name}")
    seen = trio.run(getattr(module, function), *(getattr(module, each) for each in given))
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
