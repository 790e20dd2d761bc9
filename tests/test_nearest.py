"""The table of which tests are about which module names all of the core, and what there is."""

from __future__ import annotations

from pathlib import Path

from tests.nearest import ELSEWHERE, NEAREST, SLOW, module_at, paths_of

ROOT = Path(__file__).parent.parent


def test_it_names_each_module_of_the_core() -> None:
    core = {
        module_at(path.relative_to(ROOT))
        for path in ROOT.glob("trio_conman/_*/*.py")
        if path.stem != "__init__" and path.parent.name != "_leaves"
    }
    assert {module for module in NEAREST if not module.startswith("_leaves.")} == core


def test_it_names_tests_that_there_are() -> None:
    named = set(paths_of(" ".join([*NEAREST.values(), SLOW, ELSEWHERE])))
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]
