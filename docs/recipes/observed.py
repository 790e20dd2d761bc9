import json
import logging
import sys

import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from trio_conman import ConMan, LoggingInstrument, RetriableError, RetryConfig
from trio_conman.telemetry import OpenTelemetryInstrument

BUSY = {"news"}


async def fetch(page: str) -> str:
    await trio.sleep({"home": 0.1, "news": 0.2, "old": 0.4}[page])  # stands for a request
    if page in BUSY:
        BUSY.remove(page)
        raise RetriableError(ConnectionError("busy"))
    if page == "old":
        raise LookupError("no such page")
    return f"the {page} page"


class JsonLines(logging.Formatter):
    """One line of JSON for each record: whatever fields of the manager's it has."""

    FIELDS = ("task_name", "attempt", "delay", "reason", "retries", "error_type", "error")

    def format(self, record: logging.LogRecord) -> str:
        told = {
            name: getattr(record, name) for name in self.FIELDS if hasattr(record, name)
        }
        return json.dumps({"level": record.levelname, **told})


def one_line(span: ReadableSpan) -> str:
    assert span.attributes is not None
    told = [
        span.attributes[f"trio_conman.task.{key}"]
        for key in ("name", "outcome", "retries")
    ]
    return f"span {span.name}: {told}\n"


async def main() -> None:
    tracing = TracerProvider()
    tracing.add_span_processor(
        SimpleSpanProcessor(ConsoleSpanExporter(formatter=one_line))
    )
    reader = InMemoryMetricReader()
    telemetry = OpenTelemetryInstrument(
        tracer_provider=tracing, meter_provider=MeterProvider(metric_readers=[reader])
    )
    retry = RetryConfig.exponential(jitter=False)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(
            nursery, limit=3, retry=retry, instruments=[LoggingInstrument(), telemetry]
        ) as cm:
            for page in ("home", "news", "old"):
                await cm.run(fetch, page, name=page)

    metrics = reader.get_metrics_data()
    for metric in metrics.resource_metrics[0].scope_metrics[0].metrics if metrics else ():
        print(f"metric {metric.name} ({metric.unit})")


handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(JsonLines())
logging.basicConfig(
    handlers=[handler], level=logging.INFO
)  # at DEBUG every step is logged
trio.run(main)
