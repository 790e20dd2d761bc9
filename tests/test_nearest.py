"""The table of which tests are about which module names all of the core, and what there is."""

from __future__ import annotations

from pathlib import Path

from tests.nearest import NEAREST, module_at, path_of, paths_of

ROOT = Path(__file__).parent.parent


def test_it_names_each_module_of_the_core() -> None:
    core = {
        module_at(path.relative_to(ROOT))
        for path in ROOT.glob("trio_conman/_*/*.py")
        if path.stem != "__init__" and path.parent.name != "_leaves"
    }
    assert not core - set(NEAREST)


def test_it_names_what_there_is() -> None:
    named = {*map(path_of, NEAREST), *map(Path, paths_of(" ".join(NEAREST.values())))}
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]
