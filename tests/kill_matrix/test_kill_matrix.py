"""The short form of the kill matrix: real gateways, really killed at fault points, lose nothing."""

from __future__ import annotations

import os

import pytest
from kill_matrix.run import plain, run, short, unreachable


@pytest.mark.timeout(600)  # it is as long as many tests
async def test_kills_at_fault_points_lose_double_and_leak_nothing() -> None:
    scores = await run(short(only=""), jobs=os.cpu_count() or 1, keep=None, told=lambda _: None)

    assert [plain(score) for score in scores if not score.clean] == []
    assert unreachable(scores) == []
