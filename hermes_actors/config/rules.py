"""What single values of the configuration must look like: pure checks, used by the types and after interpolation.

Each check returns the value it was given, or raises :class:`Unfit` with the rest of the sentence "expected …". None of
them repeats the value: it may be a secret pasted into the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from hermes_actors.config.pasted import looks_like_key
from hermes_actors.config.problems import KEEP_KEY, LOOKS_LIKE_KEY

MIN_API_KEY_LENGTH = 8
MIN_SHARDS = 8
MAX_SHARDS = 4096  # a shard is a SQLite file: three descriptors while it is open

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SERVER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PRINCIPAL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_WEB_ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2: token
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~\t]*[!-~])?")  # RFC 9110, section 5.5, without obs-text
_LISTEN_HOST = re.compile(r"[\w.:%-]+")
_URL_HOST = re.compile(r"[\w.:%-]+")
_UNSENDABLE = re.compile("[\0\ud800-\udfff]")  # surrogates: how Python holds a variable that is not UTF-8
_NOT_IN_URLS = re.compile("[\x00-\x20\x7f\ud800-\udfff]")
_KEY = re.compile(r"[!-~]+")


_LEAVE_OFF = "leave off the end: https://host/v1, not https://host/v1{}"
_NATIVE = "this server's chat completions lie below /v1: http://host:11434/v1"
_OPERATIONS: Mapping[str, str] = {  # ends of a URL that is not a base, and what to write instead
    **{
        end: _LEAVE_OFF.format(end)
        for end in ("/chat/completions", "/completions", "/responses", "/models", "/embeddings", "/messages")
    },
    "/api/chat": _NATIVE,
    "/api/generate": _NATIVE,
}


class Unfit(ValueError):
    """A value is not what its place wants; ``str()`` completes "expected …", ``remedy`` says what to do."""

    def __init__(self, expected: str, remedy: str = "") -> None:
        super().__init__(expected)
        self.remedy = remedy


def variable_name(text: str) -> str:
    """The name of an environment variable.

    Raises:
        Unfit: it is not one; often the key itself was pasted here.
    """
    if _VARIABLE_NAME.fullmatch(text) is not None:
        return text
    name = "the name of an environment variable (letters, digits and _)"
    if text.startswith("$"):
        raise Unfit(f"{name} alone", "write it without $ and braces: NAME, not ${NAME}")
    if looks_like_key(text):
        raise Unfit(f"{name}; {LOOKS_LIKE_KEY}", KEEP_KEY)
    raise Unfit(name, "put the value into a variable and give the variable's name here")


def server_name(text: str) -> str:
    """The name of an MCP server; tools are named ``mcp__<server>__<tool>``, so it may not hold the separator.

    Raises:
        Unfit: it is not one.
    """
    if _SERVER_NAME.fullmatch(text) is None or "__" in text:
        raise Unfit("a server name of 1 to 64 letters, digits, - and _, without __")
    return text


def principal_name(text: str) -> str:
    """The name of a caller; it is a part of session keys, ``api:<principal>:<id>``, so it holds no colon.

    Raises:
        Unfit: it is not one.
    """
    if _PRINCIPAL_NAME.fullmatch(text) is None:
        raise Unfit("a principal name of 1 to 64 letters, digits, ., - and _")
    return text


def header_name(text: str) -> str:
    """An HTTP header's name.

    Raises:
        Unfit: it is not one.
    """
    if _HEADER_NAME.fullmatch(text) is None:
        raise Unfit("an HTTP header name (letters, digits and -)")
    return text


def header_value(text: str) -> str:
    """An HTTP header's value.

    Raises:
        Unfit: it is not one.
    """
    if _HEADER_VALUE.fullmatch(text) is None:
        raise Unfit("an HTTP header value: printable ASCII on one line, no blanks around it")
    return text


def child_text(text: str) -> str:
    """Text that the system can hand to a child process.

    Raises:
        Unfit: it holds a NUL, or bytes that are not UTF-8.
    """
    if _UNSENDABLE.search(text):
        raise Unfit("UTF-8 text without NUL characters")
    return text


def program(text: str) -> str:
    """A program to start, without its arguments: a name with blanks in it can only be a path.

    Raises:
        Unfit: it is a whole command line.
    """
    first, _, rest = text.partition(" ")
    if rest and "/" not in first:
        raise Unfit("a program alone, without arguments", "put each argument into the list args")
    return text


def child_variable(text: str) -> str:
    """The name of a variable in a child process's environment.

    Raises:
        Unfit: it is not one.
    """
    if not text or "=" in text or "${" in text or _UNSENDABLE.search(text):
        raise Unfit("the name of a variable: not empty, without =, ${ and NUL")
    return text


def listen_host(text: str) -> str:
    """The address or name on which to listen.

    Raises:
        Unfit: it is not one.
    """
    if _LISTEN_HOST.fullmatch(text) is None:
        raise Unfit("an address or host name, like 127.0.0.1", "the port has a key of its own")
    return text


def http_url(text: str) -> str:
    """An absolute URL without credentials.

    Raises:
        Unfit: it is not one.
    """
    unfit = Unfit("an http:// or https:// URL with a host, like http://localhost:8000/v1")
    try:
        parts = urlsplit(text)
        _ = parts.port  # parsed on access
    except ValueError:
        raise unfit from None  # its words may repeat the URL
    if (
        _NOT_IN_URLS.search(text)
        or parts.scheme not in {"http", "https"}
        or not _URL_HOST.fullmatch(parts.hostname or "")
    ):
        raise unfit
    if "@" in parts.netloc:
        raise Unfit("a URL without user name and password", "send credentials in a header or with key_env")
    return text


def server_url(text: str) -> str:
    """The URL of an MCP server; one with variables can be checked only when they are known.

    Raises:
        Unfit: it is not one.
    """
    return text if "${" in text else http_url(text)


def base_url(text: str) -> str:
    """The URL below which a provider's ``/chat/completions`` lies.

    Raises:
        Unfit: it is not one; often that of one operation was pasted here.
    """
    path = text.partition("?")[0].rstrip("/").lower()
    for end, instead in _OPERATIONS.items():
        if path.endswith(end):
            raise Unfit(f"the URL below which /chat/completions lies, not one that ends in {end}", instead)
    if "?" in text or "#" in text:
        raise Unfit("a base URL without ? and #, like http://localhost:8000/v1")
    return http_url(text)


def web_origin(text: str) -> str:
    """The origin of a web page, as browsers send it (RFC 6454, section 6.2).

    Raises:
        Unfit: it is not one.
    """
    if _WEB_ORIGIN.fullmatch(text) is None:
        raise Unfit("an origin in small letters without a path, like https://chat.example.com or http://localhost:3000")
    return text


def shard_count(number: int) -> int:
    """How many shards a home may have.

    Raises:
        Unfit: not that many.
    """
    if not MIN_SHARDS <= number <= MAX_SHARDS or number & (number - 1):
        raise Unfit(f"a power of two from {MIN_SHARDS} to {MAX_SHARDS}")
    return number


def bearer(text: str) -> str:
    """A key that can stand in ``Authorization: Bearer <key>``.

    Raises:
        Unfit: it cannot.
    """
    if _KEY.fullmatch(text) is None:
        raise Unfit("a key of printable ASCII without blanks")
    return text


def api_key(text: str) -> str:
    """A key that callers of the gateway show.

    Raises:
        Unfit: too short to be one, or it cannot stand in a header.
    """
    if len(text) < MIN_API_KEY_LENGTH:
        raise Unfit(f"a key of at least {MIN_API_KEY_LENGTH} characters", "make one: openssl rand -hex 24")
    return bearer(text)
