"""What the words of a failed turn advise: something that can help."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.model_failures import failed

from workers.models.cause import TREATMENTS, Cause
from workers.models.provider import ModelFailure
from workers.runtimes.chat.errors import failure_error


def advice(failure: ModelFailure) -> str:
    return failure_error(failure).text.partition("What to do: ")[2]


@pytest.mark.parametrize(
    "failure",
    [
        failed(status=429, code="insufficient_quota"),
        failed(status=429, code="billing_hard_limit_reached"),
        failed(status=402),
        failed(status=400, text="insufficient credits"),
    ],
)
def test_the_advice_about_an_account_without_credit_is_not_to_wait(failure: ModelFailure) -> None:
    told = advice(failure)

    assert "account" in told
    assert "/model" in told
    assert "again" not in told


def test_a_rate_limit_passes_by_itself() -> None:
    assert advice(failed(status=429)) == "wait, then send the message again."


def test_an_answer_that_is_no_chat_completion_is_a_matter_of_base_url() -> None:
    assert "base_url" in advice(failed(kind="malformed", status=None))
    assert "base_url" in advice(failed(status=301))


def test_a_refused_key_is_named_by_its_variable() -> None:
    assert "MY_MODEL_KEY" in advice(failed(status=401, key_env="MY_MODEL_KEY"))
    assert "key_env" in advice(failed(status=401))


def test_a_conversation_that_is_too_long_is_told_with_both_numbers() -> None:
    told = advice(failed(cause=Cause.CONTEXT, window=2048, tokens=2194))

    assert "2194" in told
    assert "2048" in told
    assert "/compress" in told


def test_an_unknown_model_is_named() -> None:
    assert "fake-1" in advice(failed(status=404))


def test_the_flags_that_a_server_needs_are_named() -> None:
    text = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'

    assert "--enable-auto-tool-choice" in advice(failed(status=400, text=text))


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_its_status_and_an_advice_without_gaps(cause: Cause) -> None:
    error = failure_error(failed(cause=cause))

    assert error.http_status == TREATMENTS[cause].http_status
    assert "{" not in error.text
    assert error.text.endswith(".")


def test_a_chain_gives_the_advice_for_each_of_its_failures_once() -> None:
    limited, unknown = failed(status=429, provider="a", retry_after_s=40.0), failed(status=404, provider="b")

    error = failure_error(replace(unknown, earlier=(limited, replace(unknown, provider="c"))))

    assert (error.http_status, error.code, error.retry_after_s, error.provider) == (429, "rate_limited", 40.0, "a")
    assert error.text.count("check the model id") == 1
    assert "wait" in error.text
