"""Links on the loop that the gateway runs on, and on the one that comes with Python."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fakes.virtual_time import loop_factories


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return loop_factories(item, "uvloop", "asyncio")
