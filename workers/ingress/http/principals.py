"""Who calls: bearer keys to principals."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256

from workers.ingress.http.errors import ApiError

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hermes-actors"'}


class Principals:
    """The named API keys. Comparing takes the same time whichever key is given.

    Raises:
        ValueError: a name contains a colon. ``api:<principal>:<id>`` would be ambiguous, and one principal could reach
            the sessions of another.
    """

    def __init__(self, api_keys: Mapping[str, str]) -> None:
        for name in api_keys:
            if not name or ":" in name:
                raise ValueError(f"principal {name!r}: a name must not be empty nor contain a colon")
        # Digests have one length: so comparing them reveals nothing of a key's.
        self._digests = tuple((name, _digest(key)) for name, key in api_keys.items())

    def identify(self, authorization: str | None) -> str:
        """The principal of an ``Authorization`` header.

        Raises:
            ApiError: 401; none was given, or an unknown one.
        """
        if not authorization:
            raise _unauthorized("No API key was given: send it as `Authorization: Bearer KEY`.")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("The Authorization header is not of the form `Bearer KEY`.")
        given = _digest(token.strip())
        found = None
        for name, digest in self._digests:
            if hmac.compare_digest(digest, given):
                found = name
        if found is None:
            raise _unauthorized("The API key is unknown.")
        return found


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, "invalid_api_key", message, headers=_CHALLENGE)
