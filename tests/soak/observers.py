"""What watches the managers of the soak, besides its books."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from rich.console import Console

from trio_conman.progress import RichProgress
from trio_conman.telemetry import OpenTelemetryInstrument


class Telemetry(SpanProcessor):
    """Counts the tasks that OpenTelemetry was told of."""

    def __init__(self) -> None:
        self.spans = 0
        self._reader = InMemoryMetricReader()
        tracer = TracerProvider()
        tracer.add_span_processor(self)
        self.instrument = OpenTelemetryInstrument(
            tracer_provider=tracer, meter_provider=MeterProvider([self._reader])
        )

    def on_end(self, span: ReadableSpan) -> None:
        self.spans += 1

    def measured(self) -> int:
        """How many tasks its histogram of durations has."""
        data = self._reader.get_metrics_data()
        assert data is not None
        return sum(
            point.count
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "trio_conman.task.duration"
            for point in metric.data.data_points
            if isinstance(point, HistogramDataPoint)
        )


@contextlib.contextmanager
def progress() -> Iterator[RichProgress]:
    """A display on a terminal that nobody looks at."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nobody,
        RichProgress(console=Console(file=nobody, force_terminal=True)) as display,
    ):
        yield display
