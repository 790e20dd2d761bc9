"""Draws the rooms of the package, and which import which, for CONTRIBUTING.md.

python -m tests.house          # shows the picture
python -m tests.house --write  # puts it in its place
"""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path

from .test_layers import MODULES, ROOMS, neighbours, room_of

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"
PLACE = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)
TOP = "trio_conman"


def arrows() -> dict[str, set[str]]:
    """The rooms that each room imports, without those that it reaches through another one."""
    direct = {
        room: {room_of(n) for module in MODULES if room_of(module) == room for n in neighbours(module)}
        - {room}
        for room in ROOMS
    }
    reached: dict[str, set[str]] = {}
    for room in reversed(ROOMS):
        reached[room] = direct[room].union(*(reached[other] for other in direct[room] if other in reached))
    return {
        room: {to for to in tos if not any(to in reached[other] for other in tos - {to} if other in reached)}
        for room, tos in direct.items()
    }


def picture() -> str:
    """The picture, as a fenced block."""
    lines = ["```mermaid", "graph TD"]
    for room in ROOMS:
        names = sorted(m.rpartition(".")[2] for m in MODULES if room_of(m) == room and m != room and m)
        doc = ast.get_docstring(ast.parse(MODULES[room].read_text(encoding="utf-8"))) or ""
        says = "what users import" if not room else doc.rstrip(".").partition(": ")[0]
        lines.append(f'    {room or TOP}["{room or TOP}: {says}<br/><small>{", ".join(names)}</small>"]')
    for room, tos in arrows().items():
        lines += [f"    {room or TOP} --> {to}" for to in sorted(tos) if to]
    return "\n".join([*lines, "```", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    if parser.parse_args().write:
        PAGE.write_text(PLACE.sub(picture(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(picture(), end="")


if __name__ == "__main__":
    main()
