from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fakes.virtual_time import loop_factories


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that workers run on: when a client is gone is the loop's to tell."""
    return loop_factories(item, "uvloop")
