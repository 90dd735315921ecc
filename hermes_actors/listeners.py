"""The public listening sockets: one for each slot on one address, held by the supervisor for life.

A connection that arrives while a slot has no worker waits in its socket's backlog, so a worker's death refuses none.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

BACKLOG = 1024  # connections that wait per slot; the kernel's net.core.somaxconn may allow fewer


class ListenFailed(Exception):
    """The public address cannot be listened on."""


@contextlib.contextmanager
def open_listeners(host: str, port: int, slots: int) -> Iterator[dict[int, socket.socket]]:
    """One listening socket for each slot, all on the same address. Port 0: a free one is chosen.

    Raises:
        ListenFailed: the host is unknown, or the port is in use or not allowed.
    """
    try:
        # Of several addresses of a host the first is served: all slots must share one.
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ListenFailed(f"api_server.host {host!r} is unknown: {error}") from error
    with contextlib.ExitStack() as opened:
        listeners: dict[int, socket.socket] = {}
        try:
            if port:
                _refuse_taken(family, address)
            for slot in range(slots):
                listener = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
                listener.bind(address)
                listener.listen(BACKLOG)
                listener.setblocking(False)
                address = listener.getsockname()  # with the port that 0 became
                listeners[slot] = listener
        except OSError as error:
            raise ListenFailed(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        yield listeners


def _refuse_taken(family: int, address: object) -> None:
    """SO_REUSEPORT would let two gateways of one user share a port in silence; a socket without it notices."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)  # type: ignore[arg-type]  # typeshed's address is wider than getaddrinfo's
