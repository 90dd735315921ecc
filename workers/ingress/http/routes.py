"""Which handler a request goes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from aiohttp import web

from workers.ingress.http.errors import ApiError
from workers.ingress.http.names import is_session_id

MAX_QUOTED_CHARS = 200  # of an unknown path, in the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request on its way to a handler."""

    request: web.BaseRequest
    principal: str  # who calls; "" where nobody has to say
    session_id: str  # as the caller named it; "" where the path has none


Handler: TypeAlias = Callable[[Call], Awaitable[web.StreamResponse]]
Methods: TypeAlias = Mapping[str, Handler]


class Routes:
    """The table of paths and methods. In a path, ``{id}`` after ``/api/sessions/`` stands for any session's id.

    Args:
        open_to_all: what needs no key.
        principals_only: everything else.
    """

    def __init__(self, *, open_to_all: Mapping[str, Methods], principals_only: Mapping[str, Methods]) -> None:
        self._open = open_to_all
        self._closed = principals_only

    def is_open(self, path: str) -> bool:
        """Whether nobody has to say who calls."""
        return path in self._open

    def find(self, path: str, method: str) -> tuple[Handler, str]:
        """The handler of a path, and the session id in it.

        Raises:
            ApiError: 404; 405 with the methods that are allowed.
        """
        pattern, session_id = _pattern(path)
        methods = self._closed.get(pattern) or self._open.get(pattern)
        if methods is None:
            raise ApiError(404, "unknown_route", f"There is nothing at {path[:MAX_QUOTED_CHARS]!r}.")
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
            raise ApiError(405, "method_not_allowed", f"This path knows only {allowed}.", headers={"Allow": allowed})
        if session_id is not None and not is_session_id(session_id):
            raise ApiError(404, "session_not_found", "No session can have this id.")
        return handler, session_id or ""


def path_of(request: web.BaseRequest) -> str:
    """The path as it was sent: an id in it may hold what a URL library would tidy away."""
    target = request.raw_path
    if not target.startswith("/"):  # RFC 9112, section 3.2.2: a proxy may send the whole URL
        target = request.rel_url.raw_path_qs
    return target.partition("?")[0]


def _pattern(path: str) -> tuple[str, str | None]:
    """A path with its session id taken out."""
    prefix = "/api/sessions/"
    if not path.startswith(prefix):
        return path, None
    quoted, slash, below = path.removeprefix(prefix).partition("/")
    return f"{prefix}{{id}}{slash}{below}", unquote(quoted, errors="surrogateescape")
