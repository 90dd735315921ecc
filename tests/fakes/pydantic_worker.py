"""The worker of :mod:`fakes.pydantic_gateway`: the product's, with another runtime."""

from __future__ import annotations

import socket

from fakes.pydantic_runtime import PydanticRuntime

from workers.main import main as serve


def main(link: socket.socket, listeners: dict[int, socket.socket]) -> None:
    """The target of a worker process."""
    serve(link, listeners, PydanticRuntime())
