"""The body of a request: bounded in size and in time before anything looks into it."""

from __future__ import annotations

import asyncio

from aiohttp import HttpVersion11, web

from workers.ingress.http.errors import JSON_TYPE, ApiError, ClientGone


async def read_json(request: web.BaseRequest, *, max_bytes: int, timeout_s: float) -> bytes:
    """The bytes of a JSON body, unparsed.

    Raises:
        ApiError: 408, 413, 415 or 417; 400 for broken framing.
        ClientGone: before it sent all of it.
    """
    headers = request.headers
    _check_type(headers.get("Content-Type", ""))
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(415, "unsupported_encoding", "Send the body as it is, without Content-Encoding.")
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    try:
        if "Expect" in headers:
            await _expected(request)
        if request.content.is_eof():  # it came with the head, as most do: no timer for it
            return await request.read()
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(max_bytes) from None
    except web.RequestPayloadError:
        raise ApiError(400, "bad_http", "The framing of the request's body is broken.") from None
    except ConnectionError:
        raise ClientGone from None
    except TimeoutError:
        raise ApiError(
            408, "request_timeout", f"The body did not arrive within {timeout_s:g} s.", headers={"Connection": "close"}
        ) from None


def _check_type(content_type: str) -> None:
    if content_type == JSON_TYPE:
        return
    media, _, parameters = content_type.partition(";")
    charset = parameters.replace(" ", "").lower()
    if media.strip().lower() != JSON_TYPE or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise ApiError(415, "unsupported_media_type", f"Send JSON in UTF-8, with `Content-Type: {JSON_TYPE}`.")


async def _expected(request: web.BaseRequest) -> None:
    """Invite the body of a client that waits for the invitation (RFC 9110, section 10.1.1)."""
    if request.headers["Expect"].lower() != "100-continue":
        raise ApiError(417, "expectation_failed", "The only supported expectation is 100-continue.")
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, "body_too_large", f"The body is larger than {max_bytes} bytes (api_server.max_body_bytes).")
