"""What could never end is told: run, a map, wait and shutdown inside of the manager's own tasks."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_conman import ConMan, Failure, Success

NEVER = r"^run\(\) was called inside a task of 'conman' .*: use start_soon\(\), which does not wait$"


async def child(seconds: float = 1) -> str:
    await trio.sleep(seconds)
    return "child"


async def test_the_last_of_those_who_hold_all_slots_and_wait_is_told(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 3) as cm:

        async def parent(delay: float) -> str:
            await trio.sleep(delay)
            await cm.run(child)
            return f"parent {delay:g}"

        handles = [await cm.run(parent, delay) for delay in (1, 2, 3)]
        outcome = await handles[2].wait()
        assert isinstance(outcome, Failure)
        assert trio.current_time() == 3
        with pytest.raises(RuntimeError, match=NEVER):
            raise outcome.error
    # Its slot let the others go on.
    assert sorted(cm.outputs()) == ["child", "child", "parent 1", "parent 2"]
    assert trio.current_time() == 4


async def test_with_a_slot_free_it_works(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 3) as cm:

        async def parent() -> str:
            await cm.run(child)
            await cm.run(child)
            return "parent"

        for _ in range(2):
            await cm.run(parent)
    assert sorted(cm.outputs()) == ["child"] * 4 + ["parent"] * 2


async def test_a_slot_that_others_use_is_waited_for(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:

        async def parent() -> str:
            return await (await cm.run(child)).result()

        await cm.run(child, 5)
        handle = await cm.run(parent)
        assert isinstance(await handle.wait(), Success)
        assert trio.current_time() == 6


async def test_children_of_a_task_count_as_the_task(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:

        async def grandchild() -> None:
            await cm.run(child)

        async def parent() -> str:
            await trio.sleep(1)
            async with trio.open_nursery() as inner:
                for _ in range(3):
                    inner.start_soon(grandchild)
            return "parent"

        for _ in range(2):
            await cm.run(parent)
    failed = [outcome for outcome in cm.outcomes() if isinstance(outcome, Failure)]
    assert len(failed) == 1
    assert isinstance(failed[0].error, ExceptionGroup)


async def test_it_is_looked_at_again_when_the_limit_is_lowered(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 3) as cm:

        async def parent() -> str:
            await trio.sleep(0.5)
            await cm.run(child)
            return "parent"

        await cm.run(child, 5)
        handles = [await cm.run(parent) for _ in range(2)]
        await trio.sleep(1)
        cm.limit = 2
        await trio.sleep(3)
        assert [handle.state for handle in handles] == ["running", "running"]
        # At 5 the third slot goes back to the limiter, and those left wait for each other.
    assert trio.current_time() == 6
    assert sorted(type(handle.outcome).__name__ for handle in handles) == ["Failure", "Success"]


async def test_it_is_looked_at_when_a_pause_ends(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, 2) as cm:

        async def parent() -> str:
            await trio.sleep(1)
            await cm.run(child)
            return "parent"

        handles = [await cm.run(parent) for _ in range(2)]
        cm.pause()
        await trio.sleep(5)
        assert [handle.state for handle in handles] == ["running", "running"]
        cm.resume()
        await cm.wait()
        assert trio.current_time() == 6
    assert sorted(type(handle.outcome).__name__ for handle in handles) == ["Failure", "Success"]


async def test_tokens_that_others_hold_may_come_back(autojump_clock: MockClock) -> None:
    limiter = trio.CapacityLimiter(3)
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limiter) as cm:

        async def parent() -> str:
            await trio.sleep(0.5)
            await cm.run(child)
            return "parent"

        async def foreigner() -> None:
            async with limiter:
                await trio.sleep(5)

        nursery.start_soon(foreigner)
        await wait_all_tasks_blocked()
        handles = [await cm.run(parent) for _ in range(2)]
        await cm.wait()
        assert trio.current_time() == 6
    assert all(isinstance(handle.outcome, Success) for handle in handles)


@pytest.mark.parametrize("shared", [False, True])
async def test_maps_that_are_consumed_in_all_tasks_are_told_too(
    autojump_clock: MockClock, shared: bool
) -> None:
    limit = trio.CapacityLimiter(2) if shared else 2
    async with trio.open_nursery() as nursery, ConMan[str].open(nursery, limit) as cm:

        async def parent() -> str:
            async with cm.map(child, [1, 2]) as outcomes:
                return " ".join([outcome.value async for outcome in outcomes if isinstance(outcome, Success)])

        handles = [await cm.run(parent) for _ in range(2)]
    failed = [handle.outcome.error for handle in handles if isinstance(handle.outcome, Failure)]
    assert [type(error) for error in failed] == [RuntimeError]
    assert "a map was consumed inside a task of 'conman'" in str(failed[0])
    assert "child child" in cm.outputs()


@pytest.mark.parametrize("method", ["wait", "shutdown"])
async def test_what_waits_for_all_tasks_is_refused_inside_one(autojump_clock: MockClock, method: str) -> None:
    async with trio.open_nursery() as nursery, ConMan[None].open(nursery, 2) as cm:

        async def directly() -> None:
            await getattr(cm, method)()

        async def in_a_child() -> None:
            async with trio.open_nursery() as inner:
                inner.start_soon(getattr(cm, method))

        first, second = await cm.run(directly), await cm.run(in_a_child)
    assert isinstance(first.outcome, Failure)
    assert isinstance(second.outcome, Failure)
    with pytest.raises(RuntimeError, match=rf"^{method}\(\) was called from inside a task of 'conman'"):
        raise first.outcome.error
    with pytest.RaisesGroup(RuntimeError):
        raise second.outcome.error
