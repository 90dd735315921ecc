"""How long a request was and how long it may be, in tokens, from the words of a provider that refused it: pure."""

from __future__ import annotations

import re

MAX_TOKENS = 10**9  # a larger number is a mistake

_N = r"(\d[\d,]*)(?!\d|\.\d)(?: ?([km])\b)?"  # ``8192``, ``8,192``, ``128k``
_THOUSANDS = {"k": 1_000, "m": 1_000_000}
_WINDOWS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\d \+ \d+ > {_N}",  # Anthropic, with max_tokens
        # OpenAI, vLLM, llama.cpp, DeepSeek, OpenRouter, LM Studio; Ollama writes a status code behind it
        rf"context (?:length|window|size|limit)(?:(?!code)[^\d\n]){{0,24}}{_N}",
        rf"tokens > {_N}",  # Anthropic
        rf"too long: \d+ > {_N}",  # the same behind proxies
        rf"model with {_N} maximum",  # Mistral
        rf"tokens allowed[^\d\n]{{0,8}}{_N}",  # Gemini
        rf"token limit[^\d\n]{{0,8}}{_N}",  # Moonshot
        rf"input length should be \[\d+, {_N}\]",  # Qwen
        rf"\blimit:? {_N}, (?:used \d+, )?requested",  # OpenAI and Groq: more than a minute's tokens in one request
        rf"\blimit (?:is|of) {_N}",  # Cerebras, GitHub Models
        rf"(?:cannot|not) exceed {_N}",  # Cohere
        rf"must be <= {_N}",  # Together, text-generation-inference
        rf"max(?:imum)? (?:input |prompt |model |allowed )?(?:length|tokens)[^\d\n]{{0,12}}{_N}",
    )
)
_LENGTHS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_N} (?:in the messages|of text input|in your prompt|tokens from the input)",  # OpenAI, OpenRouter, SGLang
        rf"{_N} \+ \d+ >",  # Anthropic, with max_tokens
        rf"(?:requested:?|resulted in|request has|prompt has|contains|got|given:?|is too long:) (?:about |~)?{_N}",
        rf"token count (?:of )?\(?{_N}",
        rf"(?:request|input|input length) \({_N} tokens\)",
        rf"current length is {_N}",
        rf"{_N} tokens >",
    )
)


def lengths(text: str) -> tuple[int | None, int | None]:
    """The window that the words state, and the length of what was sent; None for what they do not state."""
    return _first(_WINDOWS, text), _first(_LENGTHS, text)


def count(value: object) -> int | None:
    """A number of tokens, or None for what is none."""
    return value if type(value) is int and 0 < value <= MAX_TOKENS else None


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> int | None:
    for pattern in patterns:
        if (found := pattern.search(text)) and (number := count(_number(found))):
            return number
    return None


def _number(found: re.Match[str]) -> int:
    return int(found[1].replace(",", "")) * _THOUSANDS.get((found[2] or "").lower(), 1)
