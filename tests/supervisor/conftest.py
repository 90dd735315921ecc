"""Gateways with fake workers, each in a short-named home, since the paths of sockets are bounded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fakes.gateway_process import GatewayProcess


@pytest.fixture
def home_root() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="ha-"))
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def prepare(home_root: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Makes gateways, not started yet; all of one test share a home unless they name one."""
    with ExitStack() as stack:

        def make(root: Path = home_root, **sections: dict[str, Any]) -> GatewayProcess:
            return stack.enter_context(GatewayProcess(root, **sections))

        yield make


@pytest.fixture
def gateway(prepare: Callable[..., GatewayProcess]) -> GatewayProcess:
    """A gateway of two workers that serves."""
    return prepare().start()
