"""What a worker learns of the windows of its models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fakes.model_failures import failed
from fakes.sessions import FakeModel, text_reply
from fakes.virtual_time import in_virtual_time, until_idle

from workers.models.chat import ChatCompletions
from workers.models.exchange import Timeouts
from workers.models.gauge import LEAST_WINDOW
from workers.models.gauges import LOOKED_UP_AGAIN_S, MOST, Gauges
from workers.models.provider import ModelFailure

PRIMARY = (0, None)
LARGE = 100_000  # bytes
TIMEOUTS = Timeouts(connect=5.0, first_token=5.0, inter_token=5.0)


class Stating(FakeModel):
    """States a window, and counts how often it is asked for it."""

    def __init__(self, window: int | None) -> None:
        super().__init__()
        self.stated = window
        self.looks: list[str] = []
        self.answer = asyncio.Event()
        self.answer.set()

    async def window(self, model: str) -> int | None:
        self.looks.append(model)
        await self.answer.wait()
        return self.stated


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refusal(*, window: int | None = None, tokens: int | None = None) -> ModelFailure:
    return failed(status=400, text="too long", code="context_length_exceeded", window=window, tokens=tokens)


async def test_a_provider_is_asked_for_its_window_once_and_only_where_it_matters() -> None:
    provider = Stating(8192)
    gauges = Gauges([provider], Clock())

    assert (await gauges.known(PRIMARY, 100)).window is None
    assert (await gauges.known(PRIMARY, LARGE)).window == 8192
    assert (await gauges.known(PRIMARY, LARGE)).window == 8192
    assert provider.looks == ["fake-1"]


@in_virtual_time
async def test_sessions_that_ask_at_once_share_one_look_and_one_that_leaves_does_not_end_it() -> None:
    provider = Stating(8192)
    provider.answer.clear()
    gauges = Gauges([provider], Clock())
    first, second = (asyncio.create_task(gauges.known(PRIMARY, LARGE)) for _ in range(2))
    await until_idle()
    first.cancel()
    provider.answer.set()

    assert (await second).window == 8192
    assert len(provider.looks) == 1


async def test_a_provider_that_states_nothing_is_asked_again_much_later() -> None:
    provider, clock = Stating(None), Clock()
    gauges = Gauges([provider], clock)
    await gauges.known(PRIMARY, LARGE)
    await gauges.known(PRIMARY, LARGE)
    assert len(provider.looks) == 1

    clock.now += LOOKED_UP_AGAIN_S

    await gauges.known(PRIMARY, LARGE)
    assert len(provider.looks) == 2


async def test_a_configured_window_is_believed_and_not_looked_up_and_is_of_the_configured_model_alone() -> None:
    provider = Stating(8192)
    provider.context_length = 32_768
    gauges = Gauges([provider], Clock())

    assert (await gauges.known(PRIMARY, LARGE)).window == 32_768
    assert (await gauges.known((0, "other"), LARGE)).window == 8192
    assert provider.looks == ["other"]


def test_a_refusal_is_believed_over_what_was_configured_or_stated() -> None:
    provider = Stating(None)
    provider.context_length = 32_768
    gauges = Gauges([provider], Clock())

    gauges.refused(PRIMARY, 10_000, refusal(window=2048, tokens=2500))

    gauge = gauges.of(PRIMARY)
    assert (gauge.window, gauge.tokens_per_byte) == (2048, 0.25)


def test_a_refusal_that_states_no_window_bounds_it_by_what_was_sent() -> None:
    gauges = Gauges([Stating(None)], Clock())

    gauges.refused(PRIMARY, 10_000, refusal())

    assert gauges.of(PRIMARY).window == int(0.9 * 3000)


def test_nothing_is_learned_of_a_body_that_was_too_large_for_a_proxy_nor_of_a_figure_that_is_a_mistake() -> None:
    gauges = Gauges([Stating(None)], Clock())

    gauges.refused(PRIMARY, 10_000, failed(status=413, text="Payload Too Large"))
    gauges.refused(PRIMARY, 500, refusal())
    gauges.refused(PRIMARY, 10_000, refusal(window=LEAST_WINDOW - 1))

    assert gauges.of(PRIMARY).window is None


@pytest.mark.parametrize(("configured", "known"), [(None, None), (2048, 2048)])
def test_a_model_that_takes_more_than_was_learned_has_a_larger_window(
    configured: int | None, known: int | None
) -> None:
    provider = Stating(None)
    provider.context_length = configured
    gauges = Gauges([provider], Clock())
    gauges.refused(PRIMARY, 10_000, refusal(window=400))

    gauges.answered(PRIMARY, 10_000, replace(text_reply("hi"), usage={"prompt_tokens": 3000}))

    assert gauges.of(PRIMARY).window == known


async def test_however_many_models_are_chosen_a_bounded_number_is_known() -> None:
    gauges = Gauges([Stating(None)], Clock())
    for n in range(2 * MOST):
        gauges.refused((0, f"model {n}"), 10_000, refusal(window=4096))

    windows = [gauges.of((0, f"model {n}")).window for n in range(2 * MOST)]

    assert windows == [None] * MOST + [4096] * MOST


def test_answers_teach_how_a_model_counts() -> None:
    gauges = Gauges([Stating(None)], Clock())

    gauges.answered(PRIMARY, 10_000, replace(text_reply("hi"), usage={"prompt_tokens": 2000}))

    assert gauges.of(PRIMARY).tokens(5000) == 1000


# -- the request for it -----------------------------------------------------------------------------------------------
@pytest.fixture
async def listing() -> AsyncIterator[Callable[[web.StreamResponse], Any]]:
    answers: list[web.StreamResponse] = []

    async def models(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer the-secret-key"
        return answers[-1]

    app = web.Application()
    app.router.add_get("/v1/models", models)
    async with TestServer(app) as server:
        provider = ChatCompletions(
            name="custom", model="m", base_url=str(server.make_url("/v1")), key="the-secret-key",
            timeouts=TIMEOUTS, max_retries=0,
        )  # fmt: skip

        async def window(answer: web.StreamResponse) -> int | None:
            answers.append(answer)
            return await provider.window("m")

        yield window
        await provider.close()


@pytest.mark.parametrize(
    ("answer", "window"),
    [
        (lambda: web.json_response({"data": [{"id": "m", "max_model_len": 4096}]}), 4096),
        (lambda: web.json_response({"error": "no such path"}, status=404), None),
        (lambda: web.Response(text="<html>"), None),
        (lambda: web.Response(text='"just text"'), None),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), None),
    ],
)
async def test_the_list_of_models_is_read_with_the_key_and_whatever_it_is_no_turn_fails_of_it(
    listing: Callable[[web.StreamResponse], Any], answer: Callable[[], web.StreamResponse], window: int | None
) -> None:
    assert await listing(answer()) == window


async def test_a_provider_that_is_not_there_states_no_window() -> None:
    gone = ChatCompletions(
        name="custom", model="m", base_url="http://127.0.0.1:9/v1", key=None, timeouts=TIMEOUTS, max_retries=0
    )

    assert await gone.window("m") is None
    await gone.close()
