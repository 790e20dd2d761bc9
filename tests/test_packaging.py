"""What is built, what it asks for, and what importing it brings in."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
DIST_INFO = f"trio_conman-{PROJECT['version']}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    out = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.iterdir()
    with ZipFile(path) as archive:
        yield archive


def test_the_wheel_is_the_package_and_nothing_else(wheel: ZipFile) -> None:
    source = {path.relative_to(ROOT).as_posix() for path in (ROOT / "trio_conman").rglob("*.py")}
    metadata = {f"{DIST_INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")}
    assert set(wheel.namelist()) == source | {"trio_conman/py.typed"} | metadata


def test_the_wheel_requires_trio_and_attrs_only(wheel: ZipFile) -> None:
    metadata = Parser().parsestr(wheel.read(f"{DIST_INFO}/METADATA").decode())
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    assert {r.name for r in requirements if r.marker is None} == {"trio", "attrs"}
    extras = set(metadata.get_all("Provides-Extra", []))
    # One that does not hold without an extra holds for no plain install.
    assert all(not r.marker.evaluate({"extra": ""}) for r in requirements if r.marker is not None)
    assert extras == set(PROJECT["optional-dependencies"])


def test_no_httpx_is_accepted_that_has_no_async_client() -> None:
    lists = [*PROJECT["optional-dependencies"].values(), *PYPROJECT["dependency-groups"].values()]
    requirements = [Requirement(each) for some in lists for each in some if isinstance(each, str)]
    asked_for = [each.specifier for each in requirements if each.name == "httpx"]
    assert len(asked_for) == 3
    for each in asked_for:
        assert each.contains("0.28.1")
        assert not each.contains("1.0.dev3", prereleases=True)


def test_importing_the_package_brings_in_trio_and_attrs_only() -> None:
    code = """
import json, sys
import attr, attrs, trio
before = set(sys.modules)
import trio_conman
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    new = set(json.loads(ran.stdout))
    assert {name.partition(".")[0] for name in new} - sys.stdlib_module_names == {"trio_conman"}
    assert "asyncio" not in new
    # The leaves are imported by those who use them.
    assert {name for name in new if name.startswith("trio_conman.") and "._" not in name} == set()
