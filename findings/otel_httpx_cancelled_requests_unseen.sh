#!/usr/bin/env bash
# opentelemetry-instrumentation-httpx 0.66b2: a request that is cancelled has a span like one that went well, and failed
# and cancelled requests are not in the histogram of durations.
#
# Three requests: one is answered, one gets an error, one is cancelled by a deadline. The cancelled one's span has the
# status UNSET, as the answered one's, no event, and just no status code. `http.client.duration` counts the answered one
# alone: a service that hangs leaves the histogram as quick as it was.
#
# Seen:
#   span of /answered: UNSET, events [], status code 200
#   span of /failed: ERROR, events ['exception'], status code None
#   span of /cancelled: UNSET, events [], status code None
#   counted in http.client.duration: 1 of 3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check httpx==0.28.1 opentelemetry-sdk==1.45.2 \
  opentelemetry-instrumentation-httpx==0.66b2
cat >main.py <<'PY'
import asyncio

import httpx
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


async def answer(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/failed":
        raise httpx.ConnectError("no connection")
    if request.url.path == "/cancelled":
        await asyncio.sleep(3600)
    return httpx.Response(200)


async def main() -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://service.invalid") as client:
        HTTPXClientInstrumentor().instrument_client(client, tracer_provider=tracers, meter_provider=meters)
        for path in "/answered", "/failed", "/cancelled":
            try:
                async with asyncio.timeout(0.5 if path == "/cancelled" else None):
                    await client.get(path)
            except (httpx.ConnectError, TimeoutError):
                pass
    for span in exporter.get_finished_spans():
        path = span.attributes["http.url"].removeprefix("http://service.invalid")
        events = [event.name for event in span.events]
        code = span.attributes.get("http.status_code")
        print(f"span of {path}: {span.status.status_code.name}, events {events}, status code {code}")
    (resource,) = reader.get_metrics_data().resource_metrics
    counts = [
        point.count
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "http.client.duration"
        for point in metric.data.data_points
    ]
    print(f"counted in http.client.duration: {sum(counts)} of 3")


asyncio.run(main())
PY
seen=$(venv/bin/python main.py)
echo "opentelemetry-instrumentation-httpx 0.66b2"
echo "$seen"
[ "$seen" = "span of /answered: UNSET, events [], status code 200
span of /failed: ERROR, events ['exception'], status code None
span of /cancelled: UNSET, events [], status code None
counted in http.client.duration: 1 of 3" ]
