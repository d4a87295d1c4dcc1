import asyncio

import pytest

from togetherchat_server.domain.deadline import Deadline
from togetherchat_server.domain.reasons import Reason, ServiceError


async def test_what_ends_in_time_is_left_alone():
    """The result of the work is the result."""
    async with Deadline(60.0, Reason.CALL_TIMEOUT, "too long"):
        result = await asyncio.sleep(0, "done")

    assert "done" == result


async def test_what_takes_too_long_is_cancelled_and_raises_its_kind():
    """The work sees a cancel and cleans up; who waits sees the reason and the words."""
    cleaned = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("cleaned")

    with pytest.raises(ServiceError) as caught:
        async with Deadline(0.0, Reason.FIRST_TOKEN_TIMEOUT, "no answer in time"):
            await work()

    assert ["cleaned"] == cleaned
    assert (Reason.FIRST_TOKEN_TIMEOUT, "no answer in time") == (caught.value.reason, caught.value.message)
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_no_time_at_all_ends_the_work_at_its_first_wait(seconds):
    """A deadline that has passed already is one that passes."""
    with pytest.raises(ServiceError):
        async with Deadline(seconds, Reason.CALL_TIMEOUT, "too long"):
            await asyncio.Event().wait()


async def test_another_failure_of_the_work_passes_unchanged():
    """Only the end of the time is translated."""
    with pytest.raises(KeyError):
        async with Deadline(60.0, Reason.CALL_TIMEOUT, "too long"):
            raise KeyError


async def test_a_cancel_from_outside_passes_as_a_cancel():
    """Who cancels the task gets a cancelled task, not an error of the service."""
    started = asyncio.Event()

    async def work():
        async with Deadline(60.0, Reason.CALL_TIMEOUT, "too long"):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


async def test_a_cancel_that_races_with_the_end_of_the_time_is_not_swallowed():
    """Both in one turn of the loop: the task ends as cancelled, as its canceller expects."""

    async def work():
        async with Deadline(0.0, Reason.CALL_TIMEOUT, "too long"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


async def test_the_nearer_of_two_limits_is_the_one_that_speaks():
    """Limits within limits: each raises its own reason."""
    with pytest.raises(ServiceError) as caught:
        async with (
            Deadline(60.0, Reason.CALL_TIMEOUT, "outer"),
            Deadline(0.0, Reason.CALLER_STALLED, "inner"),
        ):
            await asyncio.Event().wait()

    assert Reason.CALLER_STALLED is caught.value.reason


async def test_a_time_out_of_the_work_itself_is_not_taken_for_ours():
    """A TimeoutError that the work raises, say a socket's, passes with its own text."""
    with pytest.raises(TimeoutError, match="theirs"):
        async with Deadline(60.0, Reason.CALL_TIMEOUT, "ours"):
            raise TimeoutError("theirs")
