from __future__ import annotations

import asyncio

import pytest
from fakes.virtual_time import in_virtual_time, time_passes, until_idle

from workers.models.timeouts import MovingTimeout

LONG_S = 60.0
SHORT_S = 20.0

pytestmark = in_virtual_time


async def test_a_wait_that_is_too_long_ends_and_says_for_what() -> None:
    timeout = MovingTimeout("first token", SHORT_S)

    with pytest.raises(TimeoutError):
        async with timeout:
            await asyncio.Event().wait()

    assert str(timeout) == "no first token within 20 s"


async def test_a_shorter_wait_replaces_a_longer_one() -> None:
    timeout = MovingTimeout("first token", LONG_S)

    async def wait() -> None:
        async with timeout:
            timeout.expect("next token", SHORT_S)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait()

    assert str(timeout) == "no next token within 20 s"


async def test_a_longer_wait_replaces_a_shorter_one() -> None:
    async with MovingTimeout("first token", SHORT_S) as timeout:
        timeout.expect("next token", LONG_S)
        await time_passes(2 * SHORT_S)


async def test_a_context_that_is_left_in_time_leaves_no_timer_behind() -> None:
    async with MovingTimeout("first token", SHORT_S):
        pass
    await time_passes(2 * SHORT_S)


async def test_cancelling_the_task_is_not_taken_for_a_timeout() -> None:
    async def wait() -> None:
        async with MovingTimeout("first token", LONG_S):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await until_idle()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
