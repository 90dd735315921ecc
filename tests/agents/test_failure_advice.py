"""What the words of a failed turn advise: something that can help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workers.agents.failures import failure_error
from workers.models.provider import ModelFailure
from workers.models.retry import WEB_PAGE

FAILURE = ModelFailure(
    kind="status", provider="fake", model="fake-1", status=429, text="no", code=None, retry_after_s=None, attempts=1
)


def advice(failure: ModelFailure) -> str:
    return failure_error(failure).text.partition("What to do: ")[2]


@pytest.mark.parametrize(
    "failure",
    [
        replace(FAILURE, code="insufficient_quota"),
        replace(FAILURE, code="billing_hard_limit_reached"),
        replace(FAILURE, status=402),
    ],
)
def test_nobody_is_told_to_wait_for_an_account_without_credit(failure: ModelFailure) -> None:
    told = advice(failure)

    assert "account" in told
    assert "/model" in told
    assert "again" not in told


def test_a_rate_limit_passes_by_itself() -> None:
    assert advice(FAILURE) == "wait, then send the message again."


def test_a_web_page_in_place_of_an_answer_is_a_matter_of_base_url() -> None:
    told = advice(replace(FAILURE, kind="malformed", status=None, code=WEB_PAGE))

    assert "base_url" in told
    assert "again" not in told
