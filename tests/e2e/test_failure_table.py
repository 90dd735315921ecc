"""What failures cost, measured on real processes and compared with the page that tells people.

``HERMES_ACTORS_WRITE_TABLE=1 pytest tests/e2e/test_failure_table.py`` writes what was measured into the page.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from fakes.failure_stage import LocalServer, RemoteServer, Setting, Stage
from fakes.failure_table import Row, tables, write
from fakes.failures import CALLERS, FALLBACK, MAX_TURNS, MODEL, TOOLS, Failure
from fakes.model_server import ModelServer
from fakes.running_gateway import RunningGateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRITE = bool(os.environ.get("HERMES_ACTORS_WRITE_TABLE"))
TABLES = (MODEL, FALLBACK, TOOLS, CALLERS)  # in the order of the page
ORDER = [[failure.name for failure in table] for table in TABLES]


def configured(model: ModelServer, **config: Any) -> dict[str, Any]:
    """A gateway with one worker, that waits for nothing longer than a test can."""
    patience = {"first_token_timeout": 4, "inter_token_timeout": 2}  # a busy machine is slow to begin
    return {
        "model": {"provider": "custom", "default": "fake-1", "base_url": model.base_url, **patience},
        "agent": {"api_max_retries": 1, "max_turns": MAX_TURNS, "restart_drain_timeout": 1},
        "supervisor": {"workers": 1},
        **config,
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setting(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> AsyncIterator[Setting]:
    """One model, and tool servers of all kinds, whose tools are known."""
    directory = tmp_path_factory.mktemp("failures")
    remote = RemoteServer(directory / "remote", required=True)
    older = RemoteServer(directory / "older", protocol="legacy")
    servers = {
        "local": LocalServer(directory / "local"),
        "hasty": LocalServer(directory / "hasty", timeout=1.5),
        "small": LocalServer(directory / "small", small=True, connect_timeout=3),
        "remote": remote,
        "older": older,
    }
    entries = {name: server.config for name, server in servers.items()}
    config = configured(model, mcp_servers={**entries, "absent": {"command": "no-such-program"}})
    await asyncio.gather(remote.start(), older.start())
    try:
        async with RunningGateway(directory / "home", config) as gateway:
            await gateway.say("hello", "first")
            yield Setting(gateway=gateway, model=model, fallback=None, servers=servers)
    finally:
        await asyncio.gather(remote.stop(), older.stop())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setting_with_fallback(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> AsyncIterator[Setting]:
    """Two models, and a tool server."""
    directory = tmp_path_factory.mktemp("fallback")
    local = LocalServer(directory / "local", small=True)
    async with ModelServer() as fallback:
        providers = [{"provider": "custom", "model": "fake-2", "base_url": fallback.base_url}]
        config = configured(model, mcp_servers={"local": local.config}, fallback_providers=providers)
        async with RunningGateway(directory / "home", config) as gateway:
            yield Setting(gateway=gateway, model=model, fallback=fallback, servers={"local": local})


@pytest.fixture(scope="module")
def measured() -> Iterator[list[dict[str, Row]]]:
    """What this run measures, for each table; written into the page in the end, where that is wanted."""
    rows: list[dict[str, Row]] = [{} for _ in TABLES]
    yield rows
    if WRITE:
        write(ORDER, rows)


def of_table(*numbers: int) -> pytest.MarkDecorator:
    """A test for each failure of these tables."""
    cases = [
        pytest.param(number, failure, id=f"{number}-{failure.name}") for number in numbers for failure in TABLES[number]
    ]
    return pytest.mark.parametrize(("number", "failure"), cases)


@of_table(0, 2, 3)
async def test_a_failure_costs_what_the_page_says(
    number: int, failure: Failure, setting: Setting, measured: list[dict[str, Row]]
) -> None:
    await compare(number, failure, setting, measured)


@of_table(1)
async def test_a_failure_with_a_fallback_costs_what_the_page_says(
    number: int, failure: Failure, setting_with_fallback: Setting, measured: list[dict[str, Row]]
) -> None:
    await compare(number, failure, setting_with_fallback, measured)


async def compare(number: int, failure: Failure, setting: Setting, measured: list[dict[str, Row]]) -> None:
    own = f"{number}.{TABLES[number].index(failure)}"
    stage = Stage(setting, own if failure.session == "" else failure.session, failure.server)

    row = measured[number][failure.name] = await stage.row(failure.name, failure.happens, connected=failure.connected)

    if failure.session == "":
        await setting.gateway.request("DELETE", f"/api/sessions/{own}")  # and its processes
    assert WRITE or row == tables()[number].get(failure.name)


async def test_the_page_has_these_failures_and_no_others() -> None:
    assert WRITE or [list(table) for table in tables()] == ORDER
