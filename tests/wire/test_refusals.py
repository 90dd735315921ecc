"""Refusal codes: what travels, and what an HTTP caller gets."""

from __future__ import annotations

import msgpack
import pytest

from hermes_actors.wire.refusals import RefusalCode


@pytest.mark.parametrize("code", RefusalCode)
def test_a_code_travels_as_a_text_and_keeps_its_status(code: RefusalCode) -> None:
    arrived = RefusalCode(msgpack.unpackb(msgpack.packb(code)))

    assert arrived is code
    assert 400 <= arrived.http_status < 600


def test_an_unknown_code_is_an_error_and_no_status() -> None:
    with pytest.raises(ValueError, match="no_such_code"):
        RefusalCode("no_such_code")
