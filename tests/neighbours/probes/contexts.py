"""What a task binds for its log lines, tags and spans: is it its own, where workers are used again?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from trio_conman import ConMan

LIMIT = 4
TASKS = 20


async def seen_by_tasks(bind: Callable[[int], object], look: Callable[[], object]) -> str:
    """Each task looks, binds its number, waits, and looks again; so do tasks that bind nothing."""
    others: list[object] = []

    async def work(n: int) -> None:
        before = look()
        if n % 2 == 0:
            bind(n)
        await trio.sleep(0.001 * (n % 3))
        after = look()
        if before is not None or after != (n if n % 2 == 0 else None):
            others.append((n, before, after))

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, LIMIT) as cm:
            async with cm.map(work, range(TASKS)) as outcomes:
                async for _ in outcomes:
                    pass
    cm.raise_errors()
    return "those of others too" if others else "its own alone"


async def structlog() -> dict[str, str]:
    from structlog.contextvars import bind_contextvars, get_contextvars

    def bind(n: int) -> object:
        return bind_contextvars(task=n)

    return {"a task sees what is bound by": await seen_by_tasks(bind, lambda: get_contextvars().get("task"))}


async def loguru() -> dict[str, str]:
    from loguru import logger

    lines: list[tuple[int, object]] = []
    logger.remove()
    logger.add(lambda message: lines.append((int(message.record["message"]), message.record["extra"])))

    async def work(n: int) -> None:
        with logger.contextualize(task=n):
            await trio.sleep(0.001 * (n % 3))
            logger.info(str(n))

    await run_all(work)
    own = sorted(lines, key=lambda line: line[0]) == [(n, {"task": n}) for n in range(TASKS)]
    return {"a task sees what is bound by": "its own alone" if own else "those of others too"}


async def run_all(work: Callable[[int], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, LIMIT) as cm:
            async with cm.map(work, range(TASKS)) as outcomes:
                async for _ in outcomes:
                    pass
    cm.raise_errors()


async def sentry() -> dict[str, str]:
    """Tags that are set in tasks, on what `capture_message` sends."""
    import sentry_sdk

    def tagged(event: Any, hint: Any) -> None:
        sent[int(event["message"])] = event.get("tags", {})

    sentry_sdk.init(before_send=tagged, default_integrations=False)

    async def plain(n: int) -> None:
        sentry_sdk.set_tag(f"task{n}", n)
        await trio.sleep(0.001 * (n % 3))
        sentry_sdk.capture_message(str(n))

    async def isolated(n: int) -> None:
        with sentry_sdk.isolation_scope():
            await plain(n)

    seen = {}
    for name, work in ("in isolation_scope()", isolated), ("as it is", plain):
        sent: dict[int, Any] = {}
        await run_all(work)
        own = all(set(sent[n]) == {f"task{n}"} for n in range(TASKS))
        seen[f"tags of a task, {name}"] = "its own alone" if own else "those of others too"
    return seen


async def opentelemetry_httpx() -> dict[str, str]:
    """The spans of httpx's instrumentation under those of the library."""
    import httpx
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from trio_conman.telemetry import OpenTelemetryInstrument

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    async with httpx.AsyncClient(transport=transport) as client:
        HTTPXClientInstrumentor().instrument_client(client, tracer_provider=provider)

        async def work(n: int) -> None:
            with provider.get_tracer("probe").start_as_current_span(f"work {n}"):
                await trio.sleep(0.001 * (n % 3))
                await client.get(f"http://service.invalid/{n}")

        instrument = OpenTelemetryInstrument(tracer_provider=provider, meter_provider=MeterProvider())
        async with trio.open_nursery() as nursery:
            async with ConMan[None].open(nursery, LIMIT, instruments=[instrument]) as cm:
                for n in range(TASKS):
                    await cm.run(work, n)
    cm.raise_errors()
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    own = [
        names.get(span.parent.span_id) == f"work {span.attributes['http.url'].rpartition('/')[2]}"
        for span in spans
        if span.parent is not None and "http.url" in span.attributes
    ]
    return {"a request's span is inside that of": "its own task" if own == [True] * TASKS else f"{own}"}
