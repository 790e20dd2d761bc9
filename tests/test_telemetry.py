"""`OpenTelemetryInstrument`, judged by what the SDK exports."""

import logging
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.journaled import Memory
from trio_conman import ConMan, RateLimiter, RetriableError, RetryBudget, RetryConfig, TaskHandle
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
        """By the names of the tasks, or else their own."""
        spans = self.exporter.get_finished_spans()
        return {str((span.attributes or {}).get("trio_conman.task.name", span.name)): span for span in spans}

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
def observed(caplog: pytest.LogCaptureFixture) -> Iterator[Observed]:
    """Afterwards no task is followed or counted as one that goes on, and nobody has complained."""
    observed = Observed()
    yield observed
    assert len(observed.instrument._followed) == 0
    assert set(observed.states().values()) == {0}
    assert [each for each in caplog.get_records("call") if each.levelno >= logging.WARNING] == []
    assert not trace.get_current_span().get_span_context().is_valid


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {key.removeprefix("trio_conman.task."): value for key, value in (span.attributes or {}).items()}


def events(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in span.events]


async def test_a_span_tells_of_success_and_retries(observed: Observed, autojump_clock: MockClock) -> None:
    retry = attrs.evolve(RETRY, max_attempts=2)
    async with trio.open_nursery() as nursery:
        async with ConMan[str].open(nursery, retry=retry, instruments=[observed.instrument]) as cm:
            busy = RetriableError(OSError("busy"))
            await cm.run(FlakyTask[str](busy, busy, "secret"), "password", name="good")
    (span,) = observed.exporter.get_finished_spans()
    assert span.name == "FlakyTask"
    assert attributes(span) == {"name": "good", "index": 0, "outcome": "success", "retries": 2}
    assert events(span) == [
        ("attempt started", {"trio_conman.attempt": 1}),
        ("retry scheduled", {"trio_conman.attempt": 1, "trio_conman.delay": 2, "error.type": "OSError"}),
        ("attempt started", {"trio_conman.attempt": 2}),
        ("retry scheduled", {"trio_conman.attempt": 2, "trio_conman.delay": 2, "error.type": "OSError"}),
        ("attempt started", {"trio_conman.attempt": 3}),
    ]
    assert span.status.status_code is trace.StatusCode.UNSET
    assert (span.parent, list(span.links)) == (None, [])
    assert "secret" not in span.to_json() and "password" not in span.to_json()


async def test_there_is_no_link_to_no_span(
    observed: Observed, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which the SDK would leave out by itself."""
    tracer, links = observed.instrument._tracer, list[Any]()
    start_span = tracer.start_span

    def noted(*args: Any, **options: Any) -> trace.Span:
        links.append(options["links"])
        return start_span(*args, **options)

    monkeypatch.setattr(tracer, "start_span", noted)
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[observed.instrument]) as cm:
            await cm.run(trio.sleep, 1)
    assert links == [[]]


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
        "name": "bad",
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
        "name": "unwanted",
        "index": 2,
        "retries": 0,
        "outcome": "cancelled",
        "stop_reason": "cancelled",
    }
    assert spans["unwanted"].status.status_code is trace.StatusCode.UNSET


async def test_a_span_is_named_after_what_is_called(observed: Observed, autojump_clock: MockClock) -> None:
    class Fetch:
        async def execute(self) -> None:
            pass

    async def fetch(*urls: str) -> None:
        pass

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[observed.instrument]) as cm:
            for url in ("https://one.example", "https://two.example"):
                await cm.run(fetch, url, name=url)
            cm.start_soon(partial(fetch, "three"))
            await cm.run(Fetch())
            async with cm.map(fetch, ["four"], name="map") as outcomes:
                _ = [each async for each in outcomes]
    here = "test_a_span_is_named_after_what_is_called.<locals>"
    names = [(span.name, attributes(span)["name"]) for span in observed.exporter.get_finished_spans()]
    assert sorted(names) == [
        (f"{here}.Fetch.execute", f"{here}.Fetch"),
        (f"{here}.fetch", "https://one.example"),
        (f"{here}.fetch", "https://two.example"),
        (f"{here}.fetch", "map"),
        (f"{here}.fetch", f"{here}.fetch"),
    ]


@pytest.mark.parametrize(
    "reason, error_type, options",
    [
        ("error", "ValueError", {}),
        ("retries_exhausted", "OSError", {"retry": RETRY}),
        ("max_elapsed", "OSError", {"retry": attrs.evolve(RETRY, max_elapsed=1)}),
        ("deadline", "OSError", {"retry": RETRY, "task_timeout": 2.5}),
        ("attempt_timeout", "trio.TooSlowError", {"attempt_timeout": 1}),
        ("task_timeout", "trio.TooSlowError", {"task_timeout": 1}),
        ("manager_timeout", "trio.TooSlowError", {"timeout": 1}),
        ("retry_after", "OSError", {"retry": attrs.evolve(RETRY, max_retry_after=1)}),
        ("retry_budget", "OSError", {"retry": RETRY, "retry_budget": RetryBudget(0.5)}),
    ],
)
async def test_each_reason_of_a_failure_is_told(
    reason: str, error_type: str, options: dict[str, Any], observed: Observed, autojump_clock: MockClock
) -> None:
    async def fail() -> None:
        if error_type == "trio.TooSlowError":
            await trio.sleep_forever()
        await trio.sleep(0.75)
        if reason == "retry_after":
            raise RetriableError(OSError("busy"), retry_after=5)
        raise OSError("busy") if error_type == "OSError" else ValueError("no")

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[observed.instrument], **options) as cm:
            await cm.run(fail)
    (span,), (failure,) = observed.exporter.get_finished_spans(), cm.outcomes()
    told = attributes(span)
    assert (told["outcome"], told["stop_reason"], told["error.type"]) == ("failure", reason, error_type)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == str(failure)
    name, recorded = events(span)[-1]
    assert (name, recorded["exception.type"]) == ("exception", error_type)
    assert list(observed.metric("trio_conman.task.duration")) == [("failure", reason, error_type)]


async def test_an_error_without_a_text_is_recorded_by_its_type(
    observed: Observed, autojump_clock: MockClock
) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[observed.instrument]) as cm:
            await cm.run(FlakyTask[None](MuteError()), name="mute")
            await trio.sleep(1)
            await cm.run(FlakyTask[None](None), name="next")
    spans = observed.spans()
    kind = f"{__name__}.{MuteError.__qualname__}"
    assert events(spans["mute"])[1:] == [("exception", {"exception.type": kind})]
    assert spans["mute"].status.status_code is trace.StatusCode.ERROR
    assert attributes(spans["next"])["outcome"] == "success"


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


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 9}])
@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("enter", [by_run, by_start_soon, in_a_map])
async def test_a_span_belongs_to_the_submitters_and_is_current_in_each_attempt(
    enter: Callable[..., Awaitable[None]],
    busy: bool,
    delay: int,
    options: dict[str, Any],
    observed: Observed,
    autojump_clock: MockClock,
) -> None:
    attempts: list[int] = []

    async def task() -> None:
        with observed.tracer.start_as_current_span(f"inside {len(attempts)}"):
            attempts.append(0)
            await trio.sleep(1)
            if len(attempts) == 1:
                raise OSError

    async with trio.open_nursery() as nursery:
        retry = attrs.evolve(RETRY, initial_delay=delay)
        async with ConMan[Any].open(
            nursery, 2, retry=retry, instruments=[observed.instrument], **options
        ) as cm:
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


@pytest.mark.parametrize("ordered", [False, True])
async def test_nothing_of_one_item_reaches_the_next(
    ordered: bool, observed: Observed, autojump_clock: MockClock
) -> None:
    workers: set[trio.lowlevel.Task] = set()

    async def item(number: int) -> None:
        workers.add(trio.lowlevel.current_task())
        with observed.tracer.start_as_current_span(f"inside {number}"):
            await trio.sleep(number % 2)
        if number % 3 == 0:  # left attached
            context.attach(trace.set_span_in_context(observed.tracer.start_span("left")))

    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, instruments=[observed.instrument]) as cm:
            with observed.tracer.start_as_current_span("consumer") as consumer:
                async with cm.map(item, range(20), name="item", ordered=ordered) as outcomes:
                    async for _ in outcomes:
                        assert trace.get_current_span() is consumer
    assert len(workers) < 20
    spans = observed.exporter.get_finished_spans()
    ids: dict[int, int] = {}
    for each in spans:
        if attributes(each).get("name") == "item":
            assert each.parent == consumer.get_span_context() and each.context is not None
            ids[attributes(each)["index"]] = each.context.span_id
    for number in range(20):
        parent = observed.spans()[f"inside {number}"].parent
        assert parent is not None and parent.span_id == ids[number]


async def test_a_task_that_a_task_adds_is_its_child(observed: Observed, autojump_clock: MockClock) -> None:
    async def outer(cm: ConMan[None]) -> None:
        cm.start_soon(trio.sleep, 1, name="inner")

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[observed.instrument]) as cm:
            with observed.tracer.start_as_current_span("submitter"):
                await cm.run(outer, cm, name="outer")
    spans = observed.spans()
    assert spans["outer"].parent == spans["submitter"].context
    assert spans["inner"].parent == spans["outer"].context


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
    assert cm.statistics().retries == 1
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


def leave_by_handles(cm: ConMan[Any], nursery: trio.Nursery, handles: Sequence[TaskHandle[Any]]) -> None:
    for each in handles:
        each.cancel("enough")


def leave_by_manager(cm: ConMan[Any], nursery: trio.Nursery, handles: Sequence[TaskHandle[Any]]) -> None:
    cm.cancel()


def leave_by_nursery(cm: ConMan[Any], nursery: trio.Nursery, handles: Sequence[TaskHandle[Any]]) -> None:
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("leave", [leave_by_handles, leave_by_manager, leave_by_nursery])
async def test_whoever_cancels_all_are_counted_and_none_is_an_error(
    leave: Callable[..., None], observed: Observed, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, retry=RETRY, instruments=[observed.instrument]) as cm:
            handles = [cm.start_soon(FlakyTask[Any](OSError))]
            handles += [cm.start_soon(trio.sleep_forever) for _ in range(6)]
            await trio.sleep(1)
            assert observed.states() == {"waiting": 4, "running": 2, "backing_off": 1}
            leave(cm, nursery, handles)
            await cm.wait()
    spans = observed.exporter.get_finished_spans()
    assert len(spans) == 7
    for span in spans:
        told = attributes(span)
        assert (told["outcome"], told["stop_reason"]) == ("cancelled", "cancelled")
        assert "error.type" not in told
        assert span.status.status_code is trace.StatusCode.UNSET
        assert "exception" not in [name for name, _ in events(span)]
    durations = observed.metric("trio_conman.task.duration")
    assert durations == {("cancelled", "cancelled"): (7, 3)}
    assert cm.statistics().cancelled == 7
    # Scheduled, but it never began.
    assert (observed.metric("trio_conman.task.retries"), cm.statistics().retries) == ({}, 0)


async def test_a_run_that_is_cancelled_in_the_line_makes_no_span(
    observed: Observed, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, instruments=[observed.instrument]) as cm:
            for _ in range(2):
                await cm.run(trio.sleep, 5)
            with trio.move_on_after(1):
                await cm.run(trio.sleep, 5)
            assert observed.states() == {"waiting": 0, "running": 2}
    assert len(observed.exporter.get_finished_spans()) == cm.statistics().submitted == 2


async def test_a_map_that_is_left_ends_the_spans_of_its_items(
    observed: Observed, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 3, instruments=[observed.instrument]) as cm:
            async with cm.map(trio.sleep, range(1, 100)) as outcomes:
                async for _ in outcomes:
                    break
    now = cm.statistics()
    counts = {key: count for key, (count, _) in observed.metric("trio_conman.task.duration").items()}
    assert counts == {("success",): now.succeeded, ("cancelled", "cancelled"): now.cancelled}
    assert len(observed.exporter.get_finished_spans()) == now.submitted


async def test_an_interrupt_ends_the_span(observed: Observed, autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            async with ConMan[Any].open(nursery, instruments=[observed.instrument]) as cm:
                cm.start_soon(trio.sleep_forever)
                await wait_all_tasks_blocked()
                await cm.run(interrupt)
                await cm.wait()
    outcomes = [attributes(span)["outcome"] for span in observed.exporter.get_finished_spans()]
    assert outcomes == ["cancelled", "cancelled"]


async def interrupt() -> None:
    raise KeyboardInterrupt


async def test_many_managers_may_share_it(observed: Observed, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with (
            ConMan[Any].open(nursery, 2, instruments=[observed.instrument]) as one,
            ConMan[Any].open(nursery, 3, instruments=[observed.instrument]) as two,
        ):
            for cm in (one, two):
                for _ in range(4):
                    cm.start_soon(trio.sleep, 1)
            await trio.sleep(0.5)
            assert observed.states() == {"waiting": 3, "running": 5}
    assert observed.metric("trio_conman.task.duration") == {("success",): (8, 8)}
    assert len(observed.exporter.get_finished_spans()) == 8


class Local:
    """Something that can be seen to be freed."""


@pytest.mark.usefixtures("no_collector")
async def test_no_task_is_kept_alive(observed: Observed, autojump_clock: MockClock) -> None:
    made: list[weakref.ref[Any]] = []

    async def fail() -> None:
        local = Local()
        made.append(weakref.ref(local))
        raise OSError("no")

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, retry=RETRY, instruments=[observed.instrument]) as cm:
            made.append(weakref.ref(await cm.run(fail)))
            await cm.wait()
            assert len(made) == 3 and made[2]() is not None
            cm.pop_outcomes()
            await wait_all_tasks_blocked()
            assert [each() for each in made] == [None] * 3
            async with cm.map(lambda _: fail(), range(50)) as outcomes:
                async for outcome in outcomes:
                    assert outcome.retries == 1
            del outcome
            await wait_all_tasks_blocked()
            assert [each for each in made if each() is not None] == []


class Moody(Sampler):
    """Raises at the second span."""

    count = 0

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.count += 1
        if self.count == 2:
            raise RuntimeError
        return ALWAYS_ON.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "moody"


@pytest.mark.usefixtures("no_collector")
async def test_of_a_manager_that_has_dropped_it_nothing_is_kept(autojump_clock: MockClock) -> None:
    instrument = OpenTelemetryInstrument(
        tracer_provider=TracerProvider(sampler=Moody(), shutdown_on_exit=False)
    )
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[instrument]) as cm:
            for _ in range(3):
                await cm.run(trio.sleep, 1)
            assert len(instrument._followed) == 1
    assert len(instrument._followed) == 0
    assert cm.statistics().succeeded == 3


async def test_for_a_span_that_is_not_recorded_no_traceback_is_made(autojump_clock: MockClock) -> None:
    class ShyError(OSError):
        def __str__(self) -> str:
            asked.append("its text")
            return "shy"

    asked: list[str] = []
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    async with trio.open_nursery() as nursery:
        instruments = [OpenTelemetryInstrument(tracer_provider=provider)]
        async with ConMan[None].open(nursery, instruments=instruments) as cm:
            await (await cm.run(FlakyTask[None](ShyError()))).wait()
    assert asked == ["its text"]  # by the description of the outcome


async def test_without_a_provider_it_does_nothing(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        instruments = [OpenTelemetryInstrument()]
        async with ConMan[None].open(nursery, retry=RETRY, instruments=instruments) as cm:
            await cm.run(FlakyTask[None](OSError, None))
    assert cm.statistics().succeeded == 1


def test_providers_may_be_set_after_it_was_made() -> None:
    ran = subprocess.run([sys.executable, "-c", _LATE], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("sleep\ns 14\n", "")


_LATE = """
import trio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trio_conman import ConMan
from trio_conman.telemetry import OpenTelemetryInstrument

instrument = OpenTelemetryInstrument()
exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))

async def main():
    async with trio.open_nursery() as nursery:
        async with ConMan.open(nursery, instruments=[instrument]) as cm:
            await cm.run(trio.sleep, 0)

trio.run(main)
for span in exporter.get_finished_spans():
    print(span.name)
for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
    if metric.name == "trio_conman.task.duration":
        print(metric.unit, len(metric.data.data_points[0].explicit_bounds))
"""


def test_without_the_package_one_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import trio_conman.telemetry\n"
        "except ImportError as exc:\n    print(exc)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text = "OpenTelemetryInstrument needs opentelemetry-api: pip install 'trio-conman[otel]'\n"
    assert (ran.stdout, ran.stderr) == (text, "")


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider"])
@pytest.mark.parametrize("value", [3, "x", object()], ids=type)
def test_what_is_no_provider_is_refused(name: str, value: Any) -> None:
    with pytest.raises(
        TypeError, match=rf"^{name} must have a method get_(tracer|meter)\(\), or be None, not "
    ):
        OpenTelemetryInstrument(**{name: value})


async def test_what_was_recalled_is_told_apart(observed: Observed) -> None:
    journal = Memory({"": "value"})
    async with trio.open_nursery() as nursery:
        async with ConMan[Any].open(nursery, 2, instruments=[observed.instrument], journal=journal) as cm:
            await cm.run(trio.lowlevel.checkpoint, name="task")
    span = observed.spans()["task"]
    assert attributes(span)["outcome"] == "recalled"
    assert events(span) == []


async def test_a_text_that_nobody_can_send_is_made_one(observed: Observed) -> None:
    """As of a file name with a byte that is no UTF-8."""
    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, instruments=[observed.instrument]) as cm:
            await cm.run(FlakyTask[None](ValueError("caf\udce9")), name="caf\udce9")
    (span,) = observed.spans().values()
    assert attributes(span)["name"] == r"caf\udce9"
    assert span.status.description is not None
    assert rb"ValueError: caf\udce9" in span.status.description.encode()
    _, recorded = events(span)[-1]
    assert recorded["exception.message"] == r"caf\udce9"
    assert recorded["exception.stacktrace"].endswith("ValueError: caf\\udce9\n")


async def test_a_task_that_has_ended_before_it_is_told_of_has_its_name(
    observed: Observed, autojump_clock: MockClock
) -> None:
    def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:  # outside of trio tasks
        cm.start_soon(trio.sleep, 1).cancel()
        return trio.lowlevel.Abort.SUCCEEDED

    async with trio.open_nursery() as nursery:
        async with ConMan[None].open(nursery, 2, instruments=[observed.instrument]) as cm:
            for _ in range(2):
                await cm.run(trio.sleep, 2, name="busy")
            with trio.move_on_after(1):
                await trio.lowlevel.wait_task_rescheduled(abort)
    assert {span.name for span in observed.exporter.get_finished_spans()} == {trio.sleep.__qualname__}
