"""Why a provider failed, recognised from what providers really say: the shapes of their errors, word for word short."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.models.cause import TREATMENTS, Again, Cause
from workers.models.failure import names, words_of_body
from workers.models.signs import SIGNS, recognise

MODEL = "m-1"


def cause_of(status: int | None, body: Any, *, kind: str = "status") -> Cause:
    words = words_of_body(json.dumps(body).encode())
    cause, _ = recognise(
        kind,
        status or words.status,
        codes=words.codes,
        param=words.param,
        text=words.raw,
        named=names(words.raw, MODEL),
    )
    return cause


def openai(message: str, code: str | None = None, kind: str = "invalid_request_error", param: str | None = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def plain(message: str, **others: Any) -> Any:
    return {"error": {"message": message, **others}}


RECOGNISED: list[tuple[Cause, int | None, Any]] = [
    # -- model --
    (Cause.MODEL, 404, openai("The model `m-1` does not exist or you do not have access to it.", "model_not_found")),
    (Cause.MODEL, 400, openai("Invalid model name passed in model=m-1. Call `/v1/models` to view available models.")),
    (Cause.MODEL, 400, {"detail": "The server is pinned to 'X'; requested 'm-1'."}),
    (Cause.MODEL, 400, openai("Model Not Exist")),
    (Cause.MODEL, 400, {"object": "error", "message": "Invalid model: m-1", "type": "invalid_model", "code": "1500"}),
    (Cause.MODEL, 400, plain("m-1 is not a valid model ID", code=400)),
    (Cause.MODEL, 404, openai('model "m-1" not found, try pulling it first', kind="api_error")),
    (Cause.MODEL, 404, plain("Resource not found", code="404")),
    (Cause.MODEL, 400, openai("The model `m-1` has been decommissioned.", "model_decommissioned")),
    (Cause.MODEL, 404, [plain("models/m-1 is not found for API version v1main", code=404, status="NOT_FOUND")]),
    (Cause.MODEL, 404, {"type": "error", "error": {"type": "not_found_error", "message": "model: m-1"}}),
    # -- key --
    (Cause.KEY, 401, openai("Incorrect API key provided: sk-x.", "invalid_api_key")),
    (Cause.KEY, 400, openai("No connected db.", "400", kind="no_db_connection")),
    (
        Cause.KEY,
        400,
        [
            plain(
                "API key not valid. Please pass a valid API key.",
                code=400,
                status="INVALID_ARGUMENT",
                details=[{"reason": "API_KEY_INVALID"}],
            )
        ],
    ),
    (Cause.KEY, 401, {"error": "Unauthorized"}),
    (Cause.KEY, 401, plain("No auth credentials found", code=401)),
    (Cause.KEY, 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: ab***."}),
    (Cause.KEY, 401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}),
    # -- account --
    (Cause.ACCOUNT, 429, openai("You exceeded your current quota.", "insufficient_quota", kind="insufficient_quota")),
    (Cause.ACCOUNT, 400, openai("insufficient credits")),
    (Cause.ACCOUNT, 401, openai("Insufficient balance.")),
    (Cause.ACCOUNT, 403, openai("Insufficient balance.", "insufficient_user_quota")),
    (Cause.ACCOUNT, 402, openai("Insufficient Balance", "invalid_request_error", kind="unknown_error")),
    (Cause.ACCOUNT, 429, openai("no credits left", "credit_balance_exhausted", kind="insufficient_quota")),
    (Cause.ACCOUNT, 429, plain("Your account is suspended, please recharge.", type="exceeded_current_quota_error")),
    (Cause.ACCOUNT, 400, plain("Your credit balance is too low to access the API.", type="invalid_request_error")),
    (Cause.ACCOUNT, 403, {"code": "x", "error": "Your team has used all available credits or reached its limit."}),
    (Cause.ACCOUNT, 400, openai("Budget has been exceeded! Current cost: 2, Max budget: 1", kind="budget_exceeded")),
    (Cause.ACCOUNT, 400, openai("Access denied, please make sure your account is in good standing.", "Arrearage")),
    (Cause.ACCOUNT, 412, plain("Account x is suspended, possibly due to reaching the monthly spending limit")),
    (Cause.ACCOUNT, 403, plain("Key limit exceeded (total limit)", code=403)),
    (Cause.ACCOUNT, 429, plain("Insufficient balance or no resource package. Please recharge.", code="1113")),
    # -- context --
    (Cause.CONTEXT, 400, openai("maximum context length is 32768 tokens, got 40000", "context_length_exceeded")),
    (
        Cause.CONTEXT,
        400,
        plain(
            "request (2194 tokens) exceeds the available context size (2048 tokens)",
            type="exceed_context_size_error",
            n_prompt_tokens=2194,
            n_ctx=2048,
        ),
    ),
    (Cause.CONTEXT, 400, {"object": "error", "message": "maximum context length is 32768 tokens", "code": 400}),
    (Cause.CONTEXT, 400, openai("litellm.ContextWindowExceededError: it is too much", "400")),
    (Cause.CONTEXT, 400, plain("prompt is too long: 210000 tokens > 200000 maximum", type="invalid_request_error")),
    (Cause.CONTEXT, 400, [plain("The input token count (9) exceeds the maximum number of tokens allowed (8).")]),
    (
        Cause.CONTEXT,
        400,
        {"message": "Prompt contains 9 tokens and 0 draft tokens, too large for model with 8 maximum context length"},
    ),
    (Cause.CONTEXT, 400, openai("Invalid request: Your request exceeded model token limit: 8192")),
    (Cause.CONTEXT, 413, openai("Request too large for model `m-1` on tokens per minute (TPM): Limit 6, Requested 9")),
    (Cause.CONTEXT, 429, openai("Request too large for m-1: Limit 3, Requested 4.", "rate_limit_exceeded", "tokens")),
    (Cause.CONTEXT, 400, openai("Range of input length should be [1, 30720]")),
    (Cause.CONTEXT, 413, "Payload Too Large"),
    (Cause.CONTEXT, 400, {"error": "The number of tokens to keep is greater than the context length."}),
    (Cause.CONTEXT, 400, {"error": "However, the model is loaded with context length of only 4096 tokens"}),
    (Cause.CONTEXT, 400, {"message": "The input (9 tokens) is longer than the model's context length (8 tokens)."}),
    (Cause.CONTEXT, 400, {"error": "This model's maximum prompt length is 8 but the request contains 9 tokens."}),
    (Cause.CONTEXT, 500, openai("litellm.APIError: maximum context length is 8192 tokens. You requested 9000")),
    (Cause.CONTEXT, 400, openai("array too long", "array_above_max_length", param="messages")),
    # -- picture --
    (Cause.PICTURE, 500, plain("image input is not supported - hint: provide the mmproj", type="server_error")),
    (Cause.PICTURE, 400, {"object": "error", "message": "auto is not a multimodal model", "type": "BadRequestError"}),
    (Cause.PICTURE, 400, plain("m-1 is not a multimodal model", type="BadRequestError", code=400)),
    (Cause.PICTURE, 400, openai("At most 0 image(s) may be provided in one prompt.")),
    (Cause.PICTURE, 404, plain("No endpoints found that support image input", code=404)),
    (Cause.PICTURE, 400, openai("Invalid content type. image_url is only supported by certain models.")),
    (Cause.PICTURE, 422, openai("messages[0]: unknown variant `image_url`, expected `text` at line 1")),
    (Cause.PICTURE, 400, openai("messages[1].content must be a string")),
    (Cause.PICTURE, 400, [plain("Image input modality is not enabled for models/m-1", code=400)]),
    (Cause.PICTURE, 500, openai("litellm.InternalServerError: OpenAIException - image input is not supported")),
    # -- tools --
    (
        Cause.TOOLS,
        400,
        openai(
            "Invalid 'tools[3].function.description': string too long. Expected maximum length 1024.",
            "string_above_max_length",
            param="tools[3].function.description",
        ),
    ),
    (Cause.TOOLS, 400, openai("tools: 200 given, at most 128", "array_above_max_length", param="tools")),
    (Cause.TOOLS, 400, openai("null where an array belongs", "invalid_function_parameters", param="tools[0].function")),
    (Cause.TOOLS, 400, plain('"auto" tool choice requires --enable-auto-tool-choice', type="BadRequestError")),
    (Cause.TOOLS, 400, plain("JSON schema conversion failed:\nUnrecognized schema: true", type="server_error")),
    (Cause.TOOLS, 500, plain("tools param requires --jinja flag", type="server_error")),
    (Cause.TOOLS, 400, openai("registry.ollama.ai/library/m-1 does not support tools")),
    (Cause.TOOLS, 404, plain("No endpoints found that support tool use.", code=404)),
    (Cause.TOOLS, 400, [plain("* GenerateContentRequest.tools[0].function_declarations[3].parameters: missing")]),
    (Cause.TOOLS, 400, plain("tools.0.custom.input_schema: JSON schema is invalid", type="invalid_request_error")),
    (Cause.TOOLS, 400, openai("litellm.UnsupportedParamsError: m-1 does not support parameters: ['tools']")),
    (Cause.TOOLS, 400, openai("'tools' : maximum number of items is 128")),
    # -- content --
    (
        Cause.CONTENT,
        400,
        plain(
            "The response was filtered",
            code="content_filter",
            innererror={"code": "ResponsibleAIPolicyViolation"},
        ),
    ),
    (Cause.CONTENT, 400, openai("Invalid prompt: it was flagged.", "invalid_prompt")),
    (Cause.CONTENT, 400, openai("Content Exists Risk")),
    (Cause.CONTENT, 403, plain("Your chosen model requires moderation and your input was flagged for x", code=403)),
    (Cause.CONTENT, 400, openai("Invalid 'messages[1].content': string too long.", "string_above_max_length")),
    (Cause.CONTENT, 400, openai("You uploaded an unsupported image.", "invalid_image_format")),
    (Cause.CONTENT, 400, plain("Could not process image", type="invalid_request_error")),
    (Cause.CONTENT, 400, plain("Failed to load image or audio file", type="invalid_request_error")),
    (Cause.CONTENT, 400, plain("Output blocked by content filtering policy", type="invalid_request_error")),
    (Cause.CONTENT, 400, openai("Input text data may contain inappropriate content.", "data_inspection_failed")),
    # -- request --
    (
        Cause.REQUEST,
        400,
        openai("Unsupported parameter: 'max_tokens' is not supported with m-1.", "unsupported_parameter"),
    ),
    (Cause.REQUEST, 400, openai("messages with role 'tool' must be a response to a preceding message")),
    (Cause.REQUEST, 422, {"detail": [{"loc": ["body"], "msg": "field required"}]}),
    (Cause.REQUEST, 400, openai("Function call is missing a thought_signature in functionCall parts")),
    (
        Cause.REQUEST,
        400,
        openai(
            "Invalid 'messages[3].tool_calls[0].id': string too long. Expected a string with maximum length 40.",
            "string_above_max_length",
            param="messages[3].tool_calls[0].id",
        ),
    ),
    (Cause.REQUEST, 400, "no"),
    (Cause.REQUEST, 405, "Method Not Allowed"),
    (Cause.REQUEST, 501, "Not Implemented"),
    # -- rate --
    (
        Cause.RATE,
        429,
        openai(
            "Rate limit reached on tokens per min. Please try again in 1ms. Visit /account/billing to add a method.",
            "rate_limit_exceeded",
            "tokens",
        ),
    ),
    (
        Cause.RATE,
        429,
        [plain("You exceeded your current quota, please check your plan and billing.", status="RESOURCE_EXHAUSTED")],
    ),
    (Cause.RATE, 429, {"message": "Requests rate limit exceeded"}),
    (Cause.RATE, 429, plain("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock", code=429)),
    (Cause.RATE, 429, plain("Number of request tokens has exceeded your per-minute rate limit")),
    (Cause.RATE, 429, ""),
    (Cause.RATE, None, plain("limited", code=429)),
    # -- down --
    (Cause.DOWN, 503, plain("Loading model", type="unavailable_error", code=503)),
    (Cause.DOWN, 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    (Cause.DOWN, 500, openai("The server had an error while processing your request", kind="server_error")),
    (Cause.DOWN, 504, "<html><title>504 Gateway Time-out</title></html>"),
    (Cause.DOWN, None, {"error": "it fell over"}),
    (Cause.DOWN, 408, "Request Timeout"),
    (Cause.DOWN, 400, "upstream connect error or disconnect/reset before headers"),
    # -- malformed --
    (Cause.MALFORMED, 400, openai("Failed to call a function. See 'failed_generation'", "tool_use_failed")),
    (Cause.MALFORMED, 301, ""),
    (Cause.MALFORMED, 307, "moved"),
]


@pytest.mark.parametrize(
    ("cause", "status", "body"), RECOGNISED, ids=[f"{cause}-{n}" for n, (cause, _, _) in enumerate(RECOGNISED)]
)
def test_what_a_provider_says_has_the_cause_that_it_means(cause: Cause, status: int | None, body: Any) -> None:
    assert cause_of(status, body) is cause


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("connect", Cause.DOWN),
        ("cut", Cause.DOWN),
        ("timeout", Cause.TIMEOUT),
        ("malformed", Cause.MALFORMED),
    ],
)
def test_a_request_without_an_answer_has_the_cause_of_its_end(kind: str, cause: Cause) -> None:
    assert cause_of(None, "insufficient credits", kind=kind) is cause


def test_an_error_behind_another_is_recognised() -> None:
    behind = {"error": {"code": "context_length_exceeded", "message": "x"}}
    wrapped = plain("Provider returned error", code=400, metadata={"raw": json.dumps(behind), "provider_name": "P"})

    assert cause_of(400, wrapped) is Cause.CONTEXT


def test_a_model_that_is_only_named_is_not_to_blame() -> None:
    assert cause_of(400, openai("m-1 takes its temperature from 0 to 2")) is Cause.REQUEST
    assert cause_of(400, openai("not known: m-1-mini")) is Cause.REQUEST


def test_each_cause_of_a_provider_is_recognised_in_at_least_three_forms() -> None:
    for cause in set(Cause) - {Cause.TIMEOUT, Cause.MAX_TURNS, Cause.BUG}:
        assert sum(expected is cause for expected, _, _ in RECOGNISED) >= 3, cause


def test_each_sign_says_whose_it_is_and_what_it_looks_for() -> None:
    for sign in SIGNS:
        assert sign.source
        assert sign.codes or sign.words or sign.param
        assert all(code == code.lower() for code in sign.codes)


def test_each_cause_has_a_treatment() -> None:
    assert set(TREATMENTS) == set(Cause)
    for cause, treatment in TREATMENTS.items():
        assert treatment.kept is (cause is not Cause.CONTENT)
        assert (treatment.http_status == 400) is (not treatment.may_pass and cause is not Cause.BUG)
        assert treatment.again is not Again.IN_TIME or treatment.may_pass


@given(
    st.sampled_from(["status", "connect", "timeout", "malformed", "cut"]),
    st.none() | st.integers(300, 599),
    st.text(max_size=60) | st.sampled_from([str(body) for _, _, body in RECOGNISED]),
    st.sets(st.sampled_from(sorted(code for sign in SIGNS for code in sign.codes)), max_size=2),
    st.booleans(),
)
def test_whatever_is_said_has_a_cause_of_a_provider(
    kind: str, status: int | None, text: str, codes: set[str], named: bool
) -> None:
    cause, _ = recognise(kind, status, codes=codes, text=text, named=named)

    assert cause not in (Cause.MAX_TURNS, Cause.BUG)


@pytest.mark.parametrize(
    ("text", "window", "tokens"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
            8192,
            9000,
        ),
        ("maximum context length is 32768 tokens, got 40000", 32768, 40000),
        ("maximum context length is 2048 tokens. However, your request has 2194 input tokens.", 2048, 2194),
        ("your request has at least 2049 input tokens; maximum context length is 2048 tokens", 2048, None),
        ("request (2194 tokens) exceeds the available context size (2048 tokens), try increasing it", 2048, 2194),
        ("prompt is too long: 210,000 tokens > 200,000 maximum", 200000, 210000),
        ("The input token count (12) exceeds the maximum number of tokens allowed (10).", 10, 12),
        ("Prompt contains 9 tokens, too large for model with 8 maximum context length", 8, 9),
        ("Your request exceeded model token limit : 8192", 8192, None),
        ("Request too large on tokens per minute (TPM): Limit 6000, Requested 9000, please", 6000, 9000),
        ("Current length is 9000 while limit is 8192", 8192, 9000),
        ("Range of input length should be [1, 30720]", 30720, None),
        ("input length and `max_tokens` exceed context limit: 190 + 20 > 200, decrease", 200, 190),
        ("This endpoint's maximum context length is 128k tokens.", 128_000, None),
        ("its context window (1M tokens) is exceeded", 1_000_000, None),
        ("The context length is 32.768", None, None),
        ("input length exceeds the context length (status code: 400)", None, None),  # Ollama
        ("The prompt is larger than the context length of only 4096.", 4096, None),  # LM Studio
        ("Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens).", 8192, 9000),  # SGLang
        ("The input (9000 tokens) is longer than the model's context length (8192 tokens).", 8192, 9000),
        ("too many tokens: the request cannot exceed 4096 tokens", 4096, None),  # Cohere
        ("prompt token count of 130000 exceeds the limit of 128000", 128_000, 130_000),  # GitHub Models
        (
            "maximum context length is 8192 tokens. However, you requested 9050 tokens (50 in the messages, 9000 in",
            8192,
            50,
        ),
        ("version 2.0 of 2024 says no", None, None),
    ],
)
def test_the_window_and_the_length_are_read_from_the_words(text: str, window: int | None, tokens: int | None) -> None:
    words = words_of_body(json.dumps(openai(text)).encode())

    assert (words.window, words.tokens) == (window, tokens)
