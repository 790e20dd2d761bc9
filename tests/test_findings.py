"""The scripts in findings/ have the form that CONTRIBUTING.md describes. They run by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import ROOT

INSTALLS = re.compile(r"^.*?\b(?:pip\"? install|npm install)((?:\\\n|.)*)", re.MULTILINE)
PINNED = re.compile(r"[\w.@/\[\]-]+(?:==|@)\d[\w.]*")


# There are none in an sdist.
@pytest.mark.parametrize("script", sorted((ROOT / "findings").glob("*")), ids=lambda path: path.name)
def test_a_finding_pins_its_packages_and_leaves_nothing(script: Path) -> None:
    assert script.suffix == ".sh"
    text = script.read_text(encoding="utf-8")
    opening = "#!/usr/bin/env bash\n# "
    assert text.startswith(opening)
    assert re.search(
        r"^set -euo pipefail\n(\w+)=\$\(mktemp -d\)\ntrap 'rm -rf \"\$\1\"' EXIT$", text, re.MULTILINE
    )
    installed = [
        word.strip("'\"")
        for arguments in INSTALLS.findall(text)
        for word in arguments.replace("\\\n", " ").split()
        if not word.startswith("-")
    ]
    assert installed
    assert [each for each in installed if not PINNED.fullmatch(each)] == []
    assert "trio_conman" not in text
