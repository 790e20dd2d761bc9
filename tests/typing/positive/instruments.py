"""Instruments: given to a manager, or written by a user."""

from typing import Any, assert_type

import trio

from trio_conman import ConMan, Instrument, LoggingInstrument, Outcome, Success, TaskHandle
from trio_conman.progress import ProgressRow, RichProgress
from trio_conman.telemetry import OpenTelemetryInstrument
from trio_conman.testing import Event, FixedJitter, FlakyTask, RecordingInstrument


class Own(Instrument):
    def __init__(self) -> None:
        self.names: list[str] = []

    def task_submitted(self, handle: TaskHandle[Any]) -> None:
        self.names.append(handle.name)

    def attempt_started(self, handle: TaskHandle[Any], attempt: int) -> None:
        self.names.append(handle.name * attempt)

    def retry_scheduled(self, handle: TaskHandle[Any], error: Exception, delay: float) -> None:
        self.names.append(f"{handle.name} {error} {delay}")

    def task_finished(self, handle: TaskHandle[Any], outcome: Outcome[Any]) -> None:
        if isinstance(outcome, Success):
            self.names.append(handle.name)

    def limit_changed(self, manager: str, limit: int | float) -> None:
        self.names.append(f"{manager} {limit}")

    def pause_changed(self, manager: str, seconds: float) -> None:
        self.names.append(f"{manager} {seconds}")


async def given(nursery: trio.Nursery) -> None:
    recorder = RecordingInstrument()
    with RichProgress(40, description="pages") as progress:
        assert_type(progress, RichProgress)
        row = progress.row("images", total=None)
        assert_type(row, ProgressRow)
        async with (
            ConMan[int].open(nursery, instruments=[Own(), LoggingInstrument(), recorder, progress]) as cm,
            ConMan[int].open(nursery, instruments=(OpenTelemetryInstrument(), row)),
            ConMan[int].open(nursery, instruments=[]),
        ):
            assert_type(cm, ConMan[int])
    assert_type(recorder.events, list[Event])


async def scripted(nursery: trio.Nursery) -> None:
    task = FlakyTask[str](OSError, KeyError("no"), "page", seconds=1)
    async with ConMan[str].open(nursery, rng=FixedJitter(0.5)) as cm:
        assert_type(await cm.run(task), TaskHandle[str])
        assert_type(await cm.run(task, 1, "two"), TaskHandle[str])
    assert_type(task.calls, list[tuple[float, tuple[Any, ...]]])
