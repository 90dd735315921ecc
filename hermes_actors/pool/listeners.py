"""The public listening sockets: one for each slot on one address, held by the supervisor for life.

A connection that arrives while a slot has no worker waits in its socket's backlog, so a worker's death refuses none;
and since the next life of the process inherits the sockets, neither does a planned restart.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

BACKLOG = 1024  # connections that wait per slot; the kernel's net.core.somaxconn may allow fewer


class ListenFailed(Exception):
    """The public address cannot be listened on."""


@contextlib.contextmanager
def open_listeners(
    host: str, port: int, slots: int, inherited: Sequence[int] = ()
) -> Iterator[dict[int, socket.socket]]:
    """One listening socket for each slot, all on the same address.

    To close one would reset the connections that wait in it, so all that were inherited stay, also more than there are
    slots; but those that are of another address are closed, once the new ones are open.

    Args:
        host: a name or an address.
        port: 0: that of the inherited sockets, else a free one is chosen.
        slots: how many sockets there are at least.
        inherited: descriptors of an earlier life of this process.

    Raises:
        ListenFailed: the host is unknown, or the port is in use or not allowed.
    """
    with contextlib.ExitStack() as opened:
        others = [opened.enter_context(one) for one in map(_adopted, inherited) if one is not None]
        family, address = resolve(host, port)
        kept = [one for one in others if _is_at(one, family, address)]
        try:
            if kept:
                address = kept[0].getsockname()
            elif port and all(one.getsockname()[1] != port for one in others):
                _refuse_taken(family, address)
            while len(kept) < slots:
                kept.append(opened.enter_context(_listen(family, address, wildcard=host == "::")))
                address = kept[0].getsockname()  # with the port that 0 became
        except OSError as error:
            raise ListenFailed(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        for one in others:
            if one not in kept:
                one.close()
        yield dict(enumerate(kept))


def refuse_taken(host: str, port: int) -> None:
    """Look whether a later start could listen there.

    Raises:
        ListenFailed: it could not.
    """
    family, address = resolve(host, port)
    try:
        _refuse_taken(family, address)
    except OSError as error:
        raise ListenFailed(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def resolve(host: str, port: int) -> tuple[int, Any]:
    """Family and address to listen on: of several addresses of a host the first, since all slots must share one.

    Raises:
        ListenFailed: the host is unknown.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ListenFailed(f"api_server.host {host!r} is unknown: {error}") from error
    return family, address


def _listen(family: int, address: Any, *, wildcard: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not wildcard)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _refuse_taken(family: int, address: Any) -> None:
    """SO_REUSEPORT would let two gateways of one user share a port in silence; a socket without it notices."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


# -- inherited sockets -------------------------------------------------------------------------------------------------


def _adopted(descriptor: int) -> socket.socket | None:
    """A socket that listens, and beside which others may; what is none is closed."""
    try:
        one = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return None
    wanted = (socket.SO_ACCEPTCONN, socket.SO_REUSEPORT)
    tcp = one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM
    if not tcp or not all(one.getsockopt(socket.SOL_SOCKET, option) for option in wanted):
        one.close()
        return None
    one.setblocking(False)
    return one


def _is_at(one: socket.socket, family: int, address: Any) -> bool:
    host, port = address[:2]
    its_host, its_port = one.getsockname()[:2]
    return one.family == family and its_host == host and port in (0, its_port)
