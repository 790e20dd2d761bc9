"""`OpenTelemetryInstrument`, judged by what the SDK exports."""

import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trio.testing import MockClock

from trio_conman import ConMan, RateLimiter, RetriableError, RetryConfig
from trio_conman.telemetry import OpenTelemetryInstrument
from trio_conman.testing import FlakyTask

RETRY = RetryConfig.linear(initial_delay=2, max_delay=2, max_attempts=1, retry_on=OSError)


@attrs.define(slots=False)
class Observed:
    """An instrument, and what it exports."""

    def __attrs_post_init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.tracer_provider.get_tracer("tests")
        self.reader = InMemoryMetricReader()
        self.instrument = OpenTelemetryInstrument(
            tracer_provider=self.tracer_provider,
            meter_provider=MeterProvider([self.reader], shutdown_on_exit=False),
        )

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def metric(self, name: str) -> dict[tuple[Any, ...], Any]:
        """The values of a metric, by those of its attributes; of a histogram count and sum."""
        data = self.reader.get_metrics_data()
        found: dict[tuple[Any, ...], Any] = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data is not None else ():
            if metric.name == name:
                for point in metric.data.data_points:
                    key = tuple((point.attributes or {}).values())
                    if isinstance(point, NumberDataPoint):
                        found[key] = point.value
                    elif isinstance(point, HistogramDataPoint):
                        found[key] = (point.count, point.sum)
        return found

    def states(self) -> dict[str, int]:
        return {key[0]: value for key, value in self.metric("trio_conman.task.count").items()}


@pytest.fixture
def observed() -> Observed:
    return Observed()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {key.removeprefix("trio_conman.task."): value for key, value in (span.attributes or {}).items()}


def events(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in span.events]


async def test_a_span_tells_of_success_and_retries(observed: Observed, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=RETRY, instruments=[observed.instrument]) as cm:
            await cm.run(FlakyTask[str](RetriableError(OSError("busy")), "secret"), "password", name="good")
    (span,) = observed.exporter.get_finished_spans()
    assert span.name == "good"
    assert attributes(span) == {"index": 0, "outcome": "success", "retries": 1}
    assert events(span) == [
        ("attempt started", {"trio_conman.attempt": 1}),
        ("retry scheduled", {"trio_conman.attempt": 1, "trio_conman.delay": 2, "error.type": "OSError"}),
        ("attempt started", {"trio_conman.attempt": 2}),
    ]
    assert span.status.status_code is trace.StatusCode.UNSET
    assert (span.parent, list(span.links)) == (None, [])
    assert "secret" not in span.to_json() and "password" not in span.to_json()


async def test_a_failure_has_its_status_and_its_exception(
    observed: Observed, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, task_timeout=9, instruments=[observed.instrument]) as cm:
            await cm.run(FlakyTask[None](trio.BrokenResourceError("lost"), seconds=1), name="bad")
            await cm.run(trio.sleep_forever, name="slow")
            handle = await cm.run(trio.sleep_forever, name="unwanted")
            await trio.sleep(3)
            handle.cancel()
    spans = observed.spans()
    assert attributes(spans["bad"]) == {
        "index": 0,
        "retries": 0,
        "outcome": "failure",
        "stop_reason": "error",
        "error.type": "trio.BrokenResourceError",
    }
    assert spans["bad"].status.status_code is trace.StatusCode.ERROR
    assert spans["bad"].status.description == str(cm.outcomes()[0])
    name, recorded = events(spans["bad"])[-1]
    assert (name, recorded["exception.message"]) == ("exception", "lost")
    assert attributes(spans["slow"])["stop_reason"] == "task_timeout"
    assert attributes(spans["slow"])["error.type"] == "trio.TooSlowError"
    assert attributes(spans["unwanted"]) == {
        "index": 2,
        "retries": 0,
        "outcome": "cancelled",
        "stop_reason": "cancelled",
    }
    assert spans["unwanted"].status.status_code is trace.StatusCode.UNSET


async def by_run(cm: ConMan[Any], task: Callable[[], Awaitable[Any]]) -> None:
    await cm.run(task, name="task")


async def by_start_soon(cm: ConMan[Any], task: Callable[[], Awaitable[Any]]) -> None:
    cm.start_soon(task, name="task")


async def in_a_map(cm: ConMan[Any], task: Callable[[], Awaitable[Any]]) -> None:
    async def item(_: int) -> None:
        await task()

    async with cm.map(item, [0], name="task") as outcomes:
        async for _ in outcomes:
            pass


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("enter", [by_run, by_start_soon, in_a_map])
async def test_a_span_belongs_to_the_submitters_and_is_current_in_each_attempt(
    enter: Callable[..., Awaitable[None]], busy: bool, observed: Observed, autojump_clock: MockClock
) -> None:
    attempts: list[int] = []

    async def task() -> None:
        with observed.tracer.start_as_current_span(f"inside {len(attempts)}"):
            attempts.append(0)
            await trio.sleep(1)
            if len(attempts) == 1:
                raise OSError

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, retry=RETRY, instruments=[observed.instrument]) as cm:
            for _ in range(2 if busy else 0):
                await cm.run(trio.sleep, 5)
            with observed.tracer.start_as_current_span("submitter"):
                await enter(cm, task)
            assert not trace.get_current_span().get_span_context().is_valid
    spans = observed.spans()
    outer, span = spans["submitter"].context, spans["task"]
    assert outer is not None and span.context is not None and span.parent is not None
    assert span.parent.span_id == outer.span_id
    assert [link.context.span_id for link in span.links] == [outer.span_id]
    for name in ("inside 0", "inside 1"):
        parent = spans[name].parent
        assert parent is not None and parent.span_id == span.context.span_id


async def test_nothing_of_one_item_reaches_the_next(observed: Observed, autojump_clock: MockClock) -> None:
    async def item(number: int) -> None:
        with observed.tracer.start_as_current_span(f"inside {number}"):
            await trio.sleep(number % 2)

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, instruments=[observed.instrument]) as cm:
            async with cm.map(item, range(20), name="item") as outcomes:
                async for _ in outcomes:
                    pass
    spans = observed.exporter.get_finished_spans()
    ids = {attributes(each)["index"]: each.context for each in spans if each.name == "item"}
    for number in range(20):
        parent = observed.spans()[f"inside {number}"].parent
        context = ids[number]
        assert parent is not None and context is not None and parent.span_id == context.span_id


async def test_the_metrics_are_those_of_the_manager(observed: Observed, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        options: dict[str, Any] = {"retry": RETRY, "rate": RateLimiter(1, burst=4)}
        async with ConMan[Any].open(nursery, 3, instruments=[observed.instrument], **options) as cm:
            for answer in ("a", OSError, "b", ValueError):
                cm.start_soon(FlakyTask[Any](answer, seconds=1))
            cm.start_soon(trio.sleep_forever)
            await trio.sleep(0.5)
            assert observed.states() == {"waiting": 2, "running": 3}
            await trio.sleep(1)
            assert observed.states() == {"waiting": 0, "running": 2, "backing_off": 1}
            await trio.sleep(4)
            cm.cancel()
    assert observed.states() == {"waiting": 0, "running": 0, "backing_off": 0}
    assert observed.metric("trio_conman.task.retries") == {("OSError",): 1}
    durations = observed.metric("trio_conman.task.duration")
    assert durations == {
        ("success",): (2, 2),
        ("failure", "retries_exhausted", "OSError"): (1, 4),
        ("failure", "error", "ValueError"): (1, 1),
        ("cancelled", "cancelled"): (1, 4.5),
    }
    now = cm.statistics()
    assert sum(count for count, _ in durations.values()) == now.submitted
    assert (durations["success",][0], now.cancelled) == (now.succeeded, 1)
    assert observed.metric("trio_conman.task.wait_duration") == {(): (5, 2)}


async def test_queued_tasks_that_are_cancelled_leave_nothing(
    observed: Observed, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, instruments=[observed.instrument]) as cm:
            handles = [cm.start_soon(trio.sleep_forever) for _ in range(6)]
            handles[5].cancel()
            await trio.sleep(1)
            assert observed.states() == {"waiting": 3, "running": 2}
            cm.cancel()
    assert observed.states() == {"waiting": 0, "running": 0}
    assert len(observed.exporter.get_finished_spans()) == 6
    assert not observed.instrument._followed


async def test_no_task_is_kept_alive(observed: Observed, autojump_clock: MockClock) -> None:
    class Local:
        pass

    locals_: list[weakref.ref[Local]] = []

    async def fail() -> None:
        local = Local()
        locals_.append(weakref.ref(local))
        raise ValueError("no")

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[observed.instrument]) as cm:
            await cm.run(fail)
            await cm.wait()
            assert locals_[0]() is not None
            cm.pop_outcomes()
            assert locals_[0]() is None


async def test_without_a_provider_it_does_nothing(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        instruments = [OpenTelemetryInstrument()]
        async with ConMan[None].open(nursery, retry=RETRY, instruments=instruments) as cm:
            await cm.run(FlakyTask[None](OSError, None))
    assert cm.statistics().succeeded == 1


def test_without_the_package_one_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import trio_conman.telemetry\n"
        "except ImportError as exc:\n    print(exc)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text = "OpenTelemetryInstrument needs opentelemetry-api: pip install 'trio-conman[otel]'\n"
    assert (ran.stdout, ran.stderr) == (text, "")
