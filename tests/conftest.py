"""For all tests.

The gate tries the same examples each time, so that it says something of the change that it judges;
others are looked for with ``pytest --hypothesis-profile=explore``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fakes.virtual_time import loop_factories
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "gateway",
    derandomize=True,
    deadline=None,  # how long an example takes says more of the machine than of the code
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=set(Phase) - {Phase.explain},  # explaining a state machine takes minutes
)
settings.register_profile("explore", settings.get_profile("gateway"), derandomize=False, max_examples=3_000)
settings.load_profile("gateway")


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that comes with Python; the folders whose tests run on another one say so."""
    return loop_factories(item, "asyncio")
