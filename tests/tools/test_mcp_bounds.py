from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.tools.bounds import ALWAYS_READ_BYTES, EDGE_BYTES, MAX_VALUES, answered_id, is_too_dense

PADDING = "x" * ALWAYS_READ_BYTES
LISTING = '{"a": [1, 2], "b": "\\\\ \\" {,"} [,' * 100_000


@pytest.mark.parametrize(
    "value",
    [
        PADDING,
        LISTING,
        {"text": LISTING, "rows": [[1, 2]] * (MAX_VALUES // 4)},
        [{"name": "n", "text": "a, b"} for _ in range(MAX_VALUES // 4)] + [PADDING],
    ],
)
def test_text_is_not_dense_whatever_it_looks_like(value: Any) -> None:
    assert not is_too_dense(orjson.dumps(value))


@pytest.mark.parametrize(
    "value",
    [[1] * MAX_VALUES * 2, [[]] * MAX_VALUES, [{}] * MAX_VALUES, [{"name": "n"}] * MAX_VALUES, [""] * MAX_VALUES * 3],
)
def test_many_values_in_few_bytes_are_too_dense(value: Any) -> None:
    assert is_too_dense(orjson.dumps([value, PADDING]))


@given(st.integers(0, 10**17), st.booleans(), st.text(max_size=EDGE_BYTES * 2))
def test_the_edges_of_an_answer_tell_which_request_it_answers(number: int, id_first: bool, text: str) -> None:
    result = {"content": [{"type": "text", "text": text + "x" * EDGE_BYTES}], "id": 7}
    answer = {"jsonrpc": "2.0", "id": number, "result": result}
    if not id_first:
        answer = {"result": result, "jsonrpc": "2.0", "id": number}

    line = orjson.dumps(answer) + b"\n"

    assert answered_id(line[:EDGE_BYTES], line[-EDGE_BYTES:]) == number


@pytest.mark.parametrize("line", [b'{"result":{"id":5}}', b'{"jsonrpc":"2.0","method":"m","params":{"id":5}}', b"hi\n"])
def test_an_id_further_inside_is_none_of_ours(line: bytes) -> None:
    assert answered_id(line, line) is None
