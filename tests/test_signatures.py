"""The public API is what was decided on."""

from __future__ import annotations

from tests.signatures import FILE, lines


def test_parameters_and_defaults_are_those_on_record() -> None:
    assert [*lines()] == FILE.read_text(encoding="utf-8").splitlines()
