"""What ``finish_reason`` says, in the words of the servers that are known, as data with its sources.

Casing, prefixes and hyphens do not count: ``STOP``, ``FinishReason.STOP`` and ``stop`` are one word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER = "stop", "length", "tool_calls", "content_filter"

_ENDS: Mapping[str, tuple[str, ...]] = {
    STOP: (
        "stop",  # OpenAI
        "end_turn", "stop_sequence", "pause_turn",  # Anthropic
        "eos", "eos_token",  # Together, TGI
        "stop_token", "stop_string", "end_of_text", "endoftext", "endofsequence",
        "complete", "completed", "finish", "finished", "done", "end", "normal", "success", "stopped",  # Cohere, Baidu
        "finish_reason_unspecified", "unspecified", "unknown",  # Gemini, Vertex
        "matched", "repetition_detected",  # SGLang, vLLM
    ),
    LENGTH: (
        "length", "max_tokens", "max_length", "max_output_tokens", "max_new_tokens", "max_completion_tokens",
        "model_length",  # Mistral
        "model_context_window_exceeded", "context_length", "context_length_exceeded",  # Anthropic, Zhipu
        "token_limit", "limit", "incomplete", "truncated",
    ),
    TOOL_CALLS: ("tool_calls", "tool_call", "tool_use", "function_call", "function_calls"),
    CONTENT_FILTER: (
        "content_filter", "content_filtered", "guardrail_intervened",  # Azure, Bedrock
        "safety", "recitation", "language", "blocklist", "prohibited_content", "spii", "blocked",  # Gemini
        "image_safety", "image_prohibited_content", "image_recitation", "model_armor",
        "refusal", "sensitive", "error_toxic", "moderation", "content_policy", "content_policy_violation",
    ),
}  # fmt: skip

# The provider failed, whatever it had said so far.
FAILURES: frozenset[str] = frozenset({
    "error", "errored", "failed", "failure", "fail", "exception", "fatal",  # OpenRouter, vLLM
    "abort", "aborted", "cancel", "canceled", "cancelled", "user_cancel", "interrupted",  # vLLM, SGLang, Cohere
    "network_error", "connection_error", "disconnected", "timeout", "timed_out", "request_timeout",  # Zhipu
    "insufficient_system_resource", "insufficient_system_resources", "insufficient_resources",  # DeepSeek
    "engine_overloaded", "overloaded", "resource_exhausted", "rate_limit", "rate_limit_exceeded", "rate_limited",
    "malformed_function_call", "malformed_tool_call", "unexpected_tool_call", "too_many_tool_calls",  # Gemini
    "missing_thought_signature", "malformed_response", "no_image", "image_other", "other",
    "malformed_model_output", "malformed_tool_use", "invalid_tool_call",  # Bedrock
    "internal_error", "server_error", "api_error", "backend_error", "upstream_error", "provider_error",
    "error_limit", "out_of_memory", "oom", "crash", "crashed", "unavailable", "service_unavailable",
})  # fmt: skip

_PREFIXES = ("finish_reason_", "finishreason.", "finish_reason.", "stop_reason_")
_MEANINGS = {word: end for end, words in _ENDS.items() for word in words}
_NOT_YET = frozenset({"", "null", "none", "nil", "undefined", "false"})  # written as a text by some, in every chunk


def word_of(reason: Any) -> str:
    """The word that a ``finish_reason`` is; empty where it says that the end is not there yet.

    SGLang's own form is an object with the word as its ``type``.
    """
    if isinstance(reason, dict):
        reason = reason.get("type") or reason.get("reason") or ""
    if not isinstance(reason, str):
        return ""
    if reason in _MEANINGS:
        return reason
    word = reason.strip().lower().replace("-", "_").replace(" ", "_")
    for prefix in _PREFIXES:
        if word.startswith(prefix) and word not in _MEANINGS:
            word = word.removeprefix(prefix)
    return "" if word in _NOT_YET else word


def is_failure(word: str) -> bool:
    """Whether a word says that the provider failed; one with ``error`` in it does, known or not."""
    return word in FAILURES or (word not in _MEANINGS and ("error" in word or word.endswith("_failed")))


def end_of(word: str) -> str | None:
    """The word of the API: ``stop``, ``length``, ``tool_calls``, ``content_filter``; None for one that is not known."""
    return _MEANINGS.get(word)
