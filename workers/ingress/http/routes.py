"""Routes: declared where they are handled, gathered in one table, found by path and method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from workers.ingress.http.errors import ApiError, invalid
from workers.ingress.http.shapes import Shape

MAX_QUERY_FIELDS = 20
MAX_QUOTED_CHARS = 200  # of an unknown path, in the answer

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """A request on its way to a handler."""

    request: web.BaseRequest
    principal: str  # who calls; "" where the route needs no key
    parameters: Mapping[str, str]  # by name in the pattern: the text of the path, unquoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a handler answers."""

    method: str
    path: str  # a pattern: a segment in braces is a parameter
    endpoint: str | None  # the name under which the capabilities list it; None: they do not
    features: tuple[str, ...]  # what of the capabilities is true because this route exists
    needs_key: bool
    shape: Shape | None  # what it takes and gives; None: `/openapi.json` does not have it
    summary: str  # the first line of the handler's docstring


Handler: TypeAlias = Callable[[ApiCall], Awaitable[web.StreamResponse]]
Method = TypeVar("Method", bound=Callable[..., Awaitable[web.StreamResponse]])


def route(
    method: str,
    path: str,
    *,
    endpoint: str | None = None,
    features: tuple[str, ...] = (),
    needs_key: bool = True,
    shape: Shape | None = None,
) -> Callable[[Method], Method]:
    """Declare that a method of a class answers this route. :class:`RouteTable` finds it there."""

    def declare(handler: Method) -> Method:
        handler.__dict__["route"] = Route(
            method=method,
            path=path,
            endpoint=endpoint,
            features=features,
            needs_key=needs_key,
            shape=shape,
            summary=(handler.__doc__ or "").partition("\n")[0],
        )
        return handler

    return declare


class PathTable(Generic[T]):
    """Values by path pattern.

    A parameter (``{name}``) stands for any one segment, an empty one too. Where several patterns fit a path, the one
    with a literal segment at the first difference is taken.
    """

    def __init__(self) -> None:
        self._literal: dict[str, T] = {}
        self._patterns: dict[int, list[tuple[tuple[str | None, ...], tuple[str, ...], T]]] = {}  # by count of segments

    def at(self, pattern: str, new: Callable[[], T]) -> T:
        """The value at a pattern; a new one where the table has none yet.

        Raises:
            ValueError: the pattern is no path, or the table has it with other names.
        """
        segments = pattern.split("/")
        names = tuple(segment[1:-1] for segment in segments if segment.startswith("{") and segment.endswith("}"))
        if segments[0] or len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
            raise ValueError(f"{pattern!r} is no path: it begins with a slash, and names each parameter once")
        if not names:
            return self._literal.setdefault(pattern, new())
        shape = tuple(None if segment[:1] == "{" and segment[-1:] == "}" else segment for segment in segments)
        known = self._patterns.setdefault(len(shape), [])
        for other_shape, other_names, value in known:
            if other_shape == shape:
                if other_names != names:
                    raise ValueError(f"{pattern!r} is in the table with the parameters {', '.join(other_names)}")
                return value
        value = new()
        known.append((shape, names, value))
        known.sort(key=lambda entry: [segment is None for segment in entry[0]])
        return value

    def find(self, path: str) -> tuple[T, Mapping[str, str]] | None:
        """The value at the pattern that fits a path as it was sent, and the parameters; None: no pattern fits."""
        value = self._literal.get(path)
        if value is not None:
            return value, {}
        segments = path.split("/")
        for shape, names, value in self._patterns.get(len(segments), ()):
            if all(literal is None or literal == segment for literal, segment in zip(shape, segments, strict=True)):
                given = (segment for literal, segment in zip(shape, segments, strict=True) if literal is None)
                return value, dict(zip(names, (unquote(text, errors="surrogateescape") for text in given), strict=True))
        return None


class Match(NamedTuple):
    """Who answers a request."""

    handler: Handler
    needs_key: bool
    parameters: Mapping[str, str]


class RouteTable:
    """The routes that the methods of some objects declare.

    Raises:
        ValueError: two of them answer the same requests.
    """

    def __init__(self, *parts: object) -> None:
        self.routes: list[Route] = []
        self._paths: PathTable[dict[str, tuple[Route, Handler]]] = PathTable()
        for declared, handler in (pair for part in parts for pair in _declared(part)):
            methods = self._paths.at(declared.path, dict)
            if declared.method in methods:
                raise ValueError(f"{declared.method} {declared.path} is declared twice")
            methods[declared.method] = declared, handler
            self.routes.append(declared)
        self.methods = sorted({declared.method for declared in self.routes})

    def find(self, path: str, method: str) -> Match:
        """Who answers; where no route does, a handler that raises the 404, or the 405 with the methods allowed."""
        found = self._paths.find(path)
        if found is None:
            return Match(_unknown_route, True, {})
        methods, parameters = found
        answering = methods.get("GET" if method == "HEAD" else method)
        if answering is None:
            allowed = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
            needs_key = all(declared.needs_key for declared, _ in methods.values())
            return Match(partial(_method_not_allowed, allowed), needs_key, {})
        declared, handler = answering
        return Match(handler, declared.needs_key, parameters)


def path_of(request: web.BaseRequest) -> str:
    """The path as it was sent: an id in it may hold what a URL library would tidy away."""
    target = request.raw_path
    if not target.startswith("/"):  # RFC 9112, section 3.2.2: a proxy may send the whole URL
        target = request.rel_url.raw_path_qs
    return target.partition("?")[0]


def query_of(call: ApiCall) -> dict[str, str]:
    """The fields of a request's query.

    Raises:
        ApiError: 400; it is malformed.
    """
    _, _, query = call.request.raw_path.partition("?")
    try:
        return dict(parse_qsl(query, errors="strict", max_num_fields=MAX_QUERY_FIELDS))
    except ValueError:
        raise invalid(None, "The query is malformed.", "invalid_query") from None


def _declared(part: object) -> Iterator[tuple[Route, Handler]]:
    for name, member in vars(type(part)).items():
        declared = getattr(member, "route", None)
        if isinstance(declared, Route):
            yield declared, getattr(part, name)


async def _unknown_route(call: ApiCall) -> web.StreamResponse:
    path = path_of(call.request)
    raise ApiError(404, "unknown_route", f"There is nothing at {path[:MAX_QUOTED_CHARS]!r}.")


async def _method_not_allowed(allowed: str, _call: ApiCall) -> web.StreamResponse:
    raise ApiError(405, "method_not_allowed", f"This path supports only {allowed}.", headers={"Allow": allowed})
