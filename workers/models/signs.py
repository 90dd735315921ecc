"""By what a provider's failure is recognised: data with its sources, and the pure function that reads it.

A sign is what one or several providers say where a request failed for one cause. The first that fits decides; where
none does, the status does, by :data:`CAUSE_OF_STATUS`. Signs of one's own message (``content``) are narrow on purpose:
what is taken for one is left out of the conversation.

Sources: the providers' public error references and their servers' code as of 2026-11, and what was seen from llama.cpp
b11549, vLLM 0.32, LiteLLM 1.108 and ``transformers serve`` 5.24.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from workers.models.cause import Cause

WEB_PAGE = "web_page"  # our own code: a page answers at base_url, and will the next time

CAUSE_OF_STATUS: Mapping[int, Cause] = {
    401: Cause.KEY,
    402: Cause.ACCOUNT,
    403: Cause.KEY,
    404: Cause.MODEL,
    408: Cause.DOWN,
    409: Cause.DOWN,  # a provider's lock time-out
    413: Cause.CONTEXT,
    425: Cause.DOWN,
    429: Cause.RATE,
    501: Cause.REQUEST,  # 5xx that say what a server cannot do
    505: Cause.REQUEST,
}
ADVICE_OF_STATUS: Mapping[int, str] = {
    403: "the key may not use this model: check the account, or choose another one with /model",
    413: "the conversation is too large for this model: /compress makes it shorter, /reset begins a fresh one",
}
_CAUSE_OF_KIND: Mapping[str, Cause] = {
    "connect": Cause.DOWN,
    "cut": Cause.DOWN,
    "timeout": Cause.TIMEOUT,
    "malformed": Cause.MALFORMED,
}


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What providers say of one cause. It fits where each of its parts that is given fits."""

    cause: Cause
    source: str  # who says it
    codes: frozenset[str] = frozenset()  # one of error.code, type, status, reason; lower case
    param: str = ""  # a regular expression that error.param begins with
    words: str = ""  # a regular expression found in the words, in any case
    statuses: frozenset[int | None] = frozenset()  # only with these; None: an error in a stream that names none
    advice: str = ""  # what to do, where more is known than the cause says
    names_model: bool = field(default=False)  # the words name the model that was asked, too

    @cached_property
    def _words(self) -> re.Pattern[str]:
        return re.compile(self.words, re.IGNORECASE)

    @cached_property
    def _param(self) -> re.Pattern[str]:
        return re.compile(self.param, re.IGNORECASE)

    def fits(self, status: int | None, codes: Collection[str], param: str, text: str, *, names_model: bool) -> bool:
        """Whether a provider's failure has this sign."""
        return (
            (not self.statuses or status in self.statuses)
            and (not self.codes or not self.codes.isdisjoint(codes))
            and (not self.param or self._param.match(param) is not None)
            and (names_model or not self.names_model)
            and (not self.words or self._words.search(text) is not None)
        )


def recognise(
    kind: str, status: int | None, *, codes: Collection[str] = (), param: str = "", text: str = "", named: bool = False
) -> tuple[Cause, str]:
    """Why a request failed, and what to do about it where a sign says more than the cause does, else an empty text.

    Args:
        kind: of the failure: ``status``, ``connect``, ``timeout``, ``malformed``, ``cut``.
        status: HTTP status, or that which the error itself names.
        codes: whatever the error has for codes, in lower case.
        param: of the error.
        text: the provider's words.
        named: whether they name the model that was asked.
    """
    if kind in _CAUSE_OF_KIND:
        return _CAUSE_OF_KIND[kind], ""
    if status is not None and 300 <= status <= 399:
        return Cause.MALFORMED, "check base_url: it leads elsewhere"
    for sign in SIGNS:
        if sign.fits(status, codes, param, text, names_model=named):
            return sign.cause, sign.advice
    return of_status(status), ADVICE_OF_STATUS.get(status or 0, "")


def of_status(status: int | None) -> Cause:
    """What a status says by itself. An error in a stream that names none: the request was accepted, then it failed."""
    if status is None or (status >= 500 and status not in CAUSE_OF_STATUS):
        return Cause.DOWN
    return CAUSE_OF_STATUS.get(status, Cause.REQUEST)


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


_REFUSED = frozenset({400, 404, 413, 422, 500, None})  # 500: llama.cpp, and LiteLLM for what is behind it
_FORBIDDEN = frozenset({400, 401, 402, 403, 404, 412, 429, 500, None})

SIGNS: tuple[Sign, ...] = (
    # -- the account; first, for it comes with every status ---------------------------------------------------------
    Sign(
        cause=Cause.ACCOUNT,
        source="OpenAI, Azure, Moonshot, Groq, OpenRouter, LiteLLM, Qwen, Zhipu, Volcengine, one-api",
        codes=_codes(
            "insufficient_quota insufficient_user_quota billing_hard_limit_reached billing_not_active billing_error "
            "account_deactivated account_suspended organization_deactivated credit_balance_exhausted "
            "credits_exhausted exceeded_current_quota_error insufficient_credits insufficient_balance budget_exceeded "
            "payment_required arrearage accountoverdueerror quota_not_enough 1113 1008"
        ),
    ),
    # -- how much, how fast -------------------------------------------------------------------------------------------
    Sign(
        cause=Cause.CONTEXT,
        source="OpenAI and Groq, of a request larger than the tokens of a minute",
        words=r"request too large",
    ),
    Sign(
        cause=Cause.RATE,
        source="OpenAI, Azure, Moonshot, Gemini, Mistral, Qwen, Anthropic",
        codes=_codes(
            "rate_limit_exceeded rate_limit_error rate_limit_reached_error too_many_requests resource_exhausted "
            "ratelimiterror throttling throttling.ratequota throttlingexception limit_requests limit_burst_rate "
            "service_tier_capacity_exceeded 1302 1303"
        ),
        statuses=frozenset({400, 403, 413, 429, None}),
    ),
    Sign(
        cause=Cause.RATE,
        source="OpenAI, Groq, OpenRouter, Anthropic, LiteLLM, whatever they say of accounts beside it",
        words=r"rate[- ]?limit|too many requests|throttl|(requests|tokens) per (sec|min|hour|day)|per-minute"
        r"|(try again|retry) in \d|retry after \d",
        statuses=frozenset({400, 403, 429, None}),
    ),
    Sign(
        cause=Cause.ACCOUNT,
        source="DeepSeek, OpenRouter, Anthropic, xAI, Moonshot, Hugging Face, Fireworks, LiteLLM",
        words=r"insufficient (credits?|balance|funds|quota|user quota)|credit balance|(no|out of|negative) credits?\b"
        r"|used (up )?all (of )?(your |the )?(available |monthly |included )*credits|exceeded your (current |monthly )"
        r"|(current|account|token|monthly) quota|quota (is |was |has been )?(used up|exceeded|exhausted)"
        r"|billing|recharge|top[- ]?up|payment required|spending limit|budget has been exceeded|key limit exceeded"
        r"|account\b[^.]{0,60}(suspended|deactivated|disabled|overdue|arrear|not active|good standing)"
        r"|data policy|user location is not supported",
        statuses=_FORBIDDEN,
    ),
    # -- this very message --------------------------------------------------------------------------------------------
    Sign(
        cause=Cause.CONTENT,
        source="OpenAI, Azure, Moonshot, Qwen, Zhipu, one-api: what their filters refuse",
        codes=_codes(
            "content_filter content_policy_violation responsibleaipolicyviolation invalid_prompt prohibited_content "
            "image_content_policy_violation data_inspection_failed datainspectionfailed moderation_blocked "
            "sensitive_words_detected contentpolicyviolationerror 1301"
        ),
    ),
    Sign(
        cause=Cause.CONTENT,
        source="OpenAI: a picture that is none, or too large",
        codes=_codes(
            "invalid_image invalid_image_format invalid_image_url invalid_image_mode invalid_base64_image "
            "image_parse_error image_too_large image_too_small image_file_too_large empty_image_file "
            "unsupported_image_media_type failed_to_download_image image_file_not_found"
        ),
    ),
    Sign(
        cause=Cause.CONTENT,
        source="OpenAI: a text too long for its field",
        codes=_codes("string_above_max_length"),
        param=r"(messages|input)(?!.*tool_call)",  # an id is none of the person's words
    ),
    Sign(
        cause=Cause.CONTENT,
        source="Azure, Anthropic, DeepSeek, OpenRouter, LiteLLM, Gemini",
        words=r"content (filter|management policy|policy)|content exists risk|input was flagged|flagged as|"
        r"contentpolicyviolation|prohibited content|inappropriate content|safety (system|filters?|reasons)",
        statuses=frozenset({400, 403, 422, None}),
    ),
    Sign(
        cause=Cause.CONTENT,
        source="Anthropic, Gemini, vLLM, llama.cpp: a picture that is none, or too large",
        words=r"could not process image"
        r"|(failed|unable) to (load|decode|process|download|fetch|read) (the |input )*image"
        r"|image exceeds|image (is |was )?too (large|big|small)|cannot identify image file|not a valid image"
        r"|invalid (base64 )?image (data|url|format)|image dimensions exceed|unsupported image\b(?! input)",
        statuses=_REFUSED,
    ),
    # -- pictures, of a model that takes none -------------------------------------------------------------------------
    Sign(
        cause=Cause.PICTURE,
        source="llama.cpp",
        words=r"image input is not supported|mmproj",
        advice="this model takes no pictures: start the server with the model's --mmproj file, choose another model "
        "with /model, or leave the picture out",
    ),
    Sign(
        cause=Cause.PICTURE,
        source="vLLM, OpenAI, Azure, OpenRouter, Gemini, Mistral, Groq, DeepSeek, Ollama, LiteLLM",
        words=r"not a multi-?modal model|at most \d+ images?|support(s|ed|ing)? (image|vision|picture|multi-?modal)"
        r"|(image|vision|multi-?modal)[\w ]{0,24} (is|are) not (supported|enabled|allowed|available)"
        r"|image_url is only supported|unknown variant .?image_url|content must be a string"
        r"|content' : value must be a string|unsupported content(\[\])?\.?\s?type|data required for image input"
        r"|(only (supports? )?text|text[- ]only)\b",
        statuses=_REFUSED,
    ),
    # -- tools --------------------------------------------------------------------------------------------------------
    Sign(
        cause=Cause.MALFORMED,
        source="Groq: the model's own call of a tool was broken",
        codes=_codes("tool_use_failed"),
        advice="send the message again (/retry), or choose another model with /model",
    ),
    Sign(
        cause=Cause.TOOLS,
        source="vLLM",
        words=r"auto.{0,3} tool choice requires",
        advice="start vLLM with --enable-auto-tool-choice and --tool-call-parser, so that it takes tools",
    ),
    Sign(
        cause=Cause.TOOLS,
        source="llama.cpp",
        words=r"tools? (param )?requires? --jinja",
        advice="start llama.cpp's server with --jinja, so that it takes tools",
    ),
    Sign(
        cause=Cause.TOOLS,
        source="Ollama, OpenRouter, Gemini, LiteLLM, DeepSeek: a model without tools",
        words=r"support(s|ed|ing)? (tools?\b|tool[- ]?(use|calls?|calling|choice)|function[- ]?call"
        r"|the provided .?tool)"
        r"|(tool[- ]?(use|calls?|calling|choice)|tools|function[- ]?calling) (is|are) not (supported|enabled|allowed)"
        r"|support parameters?: \[[^\]]*.tools\b",
        statuses=_REFUSED,
        advice="this model takes no tools: choose another one with /model",
    ),
    Sign(
        cause=Cause.TOOLS,
        source="OpenAI, Azure: the schema of a tool",
        codes=_codes("invalid_function_parameters invalid_tool_schema invalid_tools"),
    ),
    Sign(
        cause=Cause.TOOLS,
        source="OpenAI, Azure, Anthropic, Gemini: a place below tools",
        param=r"tools?\b|functions?\b|request\.tools",
        statuses=_REFUSED,
    ),
    Sign(
        cause=Cause.TOOLS,
        source="OpenAI, Anthropic, Gemini, Mistral, Groq, llama.cpp, vLLM",
        words=r"\btools\[\d+\]|\btools\.\d+|function_declarations\[\d+\]|input_schema|json schema conversion failed"
        r"|unrecognized schema|error resolving ref|failed to (parse|convert|initiali[sz]e|compile)[\w ]{0,24}"
        r"(grammar|schema)|invalid schema for (function|tool)|too many (tools|functions|states)"
        r"|\btools.{0,40}(at most|maximum|max\.?) |(maximum|max|at most|limit)[\w ]{0,24}\d+ (tools|functions)"
        r"|duplicate (tool|function) name|tool names must be unique|function name was",
        statuses=_REFUSED,
    ),
    # -- the length of the conversation -------------------------------------------------------------------------------
    Sign(
        cause=Cause.CONTEXT,
        source="OpenAI, Azure, llama.cpp, Groq, Mistral, Zhipu, GitHub Models, Anthropic",
        codes=_codes(
            "context_length_exceeded exceed_context_size_error context_window_exceeded contextwindowexceedederror "
            "model_max_prompt_tokens_exceeded request_too_large tokens_limit_reached 3051 1261"
        ),
    ),
    Sign(
        cause=Cause.CONTEXT,
        source="OpenAI: more messages than it takes",
        codes=_codes("array_above_max_length"),
        param=r"messages|input",
    ),
    Sign(
        cause=Cause.CONTEXT,
        source="vLLM, SGLang, DeepSeek, OpenRouter, Anthropic, Gemini, Mistral, Moonshot, Qwen, xAI, LM Studio, "
        "LiteLLM, Together, Fireworks",
        words=r"max(imum)? (context|prompt|input) (length|window|size)|contextwindowexceeded|model_max_prompt"
        r"|(longer|larger|greater|more) than (the |its )?(model'?s? )?(max(imum)? )?context|context length of only"
        r"|context (is|was) full|(not|n't) fit (in|into) (the |its )?(model'?s? )?context"
        r"|context (length|window|size|limit)[^.]{0,40}exce|exce[^.]{0,60}context"
        r"|(prompt|input|messages?|conversation|request)s? (is|are|was) too (long|large)|too many (input )?tokens"
        r"|input (length|tokens?|token count)\b[^.]{0,60}exce|exce[^.]{0,40}(token|length) limit"
        r"|exce\w* (the )?(model'?s? )?max(imum)? (\w+ )?(length|tokens|number of tokens)|too large for model with"
        r"|prompt exceeds|reduce the length|range of input length|tokens.{0,60}must be <= \d",
        statuses=_REFUSED,
    ),
    # -- the key ------------------------------------------------------------------------------------------------------
    Sign(
        cause=Cause.KEY,
        source="OpenAI, Anthropic, Moonshot, Gemini, Qwen; LiteLLM, which looks for an unknown key in its database",
        codes=_codes(
            "invalid_api_key incorrect_api_key_error invalid_authentication_error authentication_error auth_error "
            "no_db_connection api_key_invalid invalidapikey unauthenticated missing_api_key token_not_found_in_db"
        ),
    ),
    Sign(
        cause=Cause.KEY,
        source="Gemini, xAI, DeepSeek, LiteLLM, OpenRouter, Azure",
        words=r"(invalid|incorrect|missing|wrong|no|unknown|expired|malformed) (x-)?api[- _]?key"
        r"|api[- _]?key (not|is|was|has|expired|required)|no connected db|authentication (error|fail|required)"
        r"|unauthori[sz]ed|no auth credentials|invalid (bearer |access )?token\b|virtual key expected"
        r"|invalid subscription key",
        statuses=frozenset({400, 401, 403, 500, None}),
    ),
    # -- the model ----------------------------------------------------------------------------------------------------
    Sign(
        cause=Cause.REQUEST,
        source="OpenAI: a parameter that this model does not take",
        codes=_codes("unsupported_parameter unsupported_value unknown_parameter missing_required_parameter"),
    ),
    Sign(
        cause=Cause.MODEL,
        source="OpenAI, Azure, Groq, Mistral, LiteLLM, Volcengine, Zhipu",
        codes=_codes(
            "model_not_found model_not_available model_not_supported unsupported_model invalid_model modelnotfound "
            "deploymentnotfound model_decommissioned operationnotsupported key_model_access_denied "
            "team_model_access_denied invalid_model_id invalidendpointormodel.notfound modelnotopen 1211"
        ),
    ),
    Sign(
        cause=Cause.MODEL,
        source="DeepSeek, OpenRouter, Mistral, LiteLLM, Ollama, Qwen",
        words=r"(unknown|invalid|no such|unrecogni[sz]ed|unsupported|nonexistent) model|not a valid model"
        r"|model (\S+ )?((is|was) )?(not (found|exist|available|valid|loaded|allowed|served)|does(n't| not) exist"
        r"|unknown|decommissioned|deprecated|retired)",
        statuses=frozenset({400, 404, 422, None}),
    ),
    Sign(
        cause=Cause.MODEL,
        source="transformers serve, and others that name the model in saying that it has none of it",
        words=r"not (found|exist|available|valid|loaded|allowed|served|supported)|does(n't| not) exist|unknown|invalid"
        r"|no such|unavailable|decommissioned|deprecated|retired|; requested",
        statuses=frozenset({400, 422, None}),
        names_model=True,
    ),
    # -- what may pass, said with a status that does not say so -------------------------------------------------------
    Sign(
        cause=Cause.DOWN,
        source="Envoy, nginx, Anthropic, Gemini: behind a status that is not theirs",
        words=r"overloaded|temporarily unavailable|upstream connect error|try again later|service unavailable"
        r"|bad gateway|internal server error",
        statuses=frozenset({400, 404, None}),
    ),
)

DECISIVE_CODES = frozenset().union(*(sign.codes for sign in SIGNS))
