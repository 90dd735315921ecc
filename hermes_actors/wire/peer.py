"""Who is at the other end of a Unix socket, as the kernel says (SO_PEERCRED of unix(7))."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_UCRED = struct.Struct("3i")


class Credentials(NamedTuple):
    """A process, as it was when it connected or began to listen."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Credentials:
    """The process at the other end.

    Raises:
        OSError: it is no Unix socket, or not connected.
    """
    return Credentials._make(_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))
