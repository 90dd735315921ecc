"""Thinking that a server leaves in the text, between tags at its beginning: told apart from the answer, purely.

A server without a parser for its model's reasoning does so (vLLM, llama.cpp and LM Studio as started by default).
Only what stands before all other text counts: later tags are what the answer talks about.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

_TAGS: Mapping[str, str] = {
    "<think>": "</think>",  # DeepSeek, Qwen, GLM
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",  # Gemini, Gemma
    "[THINK]": "[/THINK]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi
}


class _At(Enum):
    BEFORE = auto()  # any text: it may yet be a tag
    INSIDE = auto()
    BEHIND = auto()  # the tag that ends the thinking; blank lines separate the answer from it
    ANSWER = auto()


class Thinking:
    """Takes the pieces of a text, and tells thinking from answer as soon as that is sure, however it is cut."""

    __slots__ = ("_at", "_close", "_held")

    def __init__(self) -> None:
        self._at = _At.BEFORE
        self._held = ""  # may be the beginning of a tag
        self._close = ""

    @property
    def over(self) -> bool:
        """All that comes is answer."""
        return self._at is _At.ANSWER

    @property
    def unclosed(self) -> bool:
        """The thinking has begun and not ended."""
        return self._at is _At.INSIDE

    @property
    def tagged(self) -> bool:
        """The thinking has begun."""
        return bool(self._close)

    def is_answer(self, piece: str) -> bool:
        """Whether a first piece begins with what begins no tag, so that all is answer."""
        return self._at is _At.BEFORE and not self._held and piece[0].isalnum()

    def feed(self, piece: str) -> tuple[str, str]:
        """The thinking and the answer in the next piece; what may be either is held back."""
        text, self._held = self._held + piece, ""
        thought = ""
        if self._at is _At.BEFORE:
            text = self._opened(text)
        if self._at is _At.INSIDE:
            thought, text = self._inside(text)
        if self._at is _At.BEHIND:
            text = text.lstrip()
            if text:
                self._at = _At.ANSWER
        return thought, text

    def finish(self) -> tuple[str, str]:
        """What was held back, at the end of the text."""
        text, self._held = self._held, ""
        return (text, "") if self.unclosed else ("", text)

    def _opened(self, text: str) -> str:
        begin = text.lstrip()
        for opening, close in _TAGS.items():
            if begin.startswith(opening):
                self._at, self._close = _At.INSIDE, close
                return begin.removeprefix(opening)
        if any(opening.startswith(begin) for opening in _TAGS):
            self._held = text
            return ""
        self._at = _At.ANSWER
        return text

    def _inside(self, text: str) -> tuple[str, str]:
        thought, found, answer = text.partition(self._close)
        if found:
            self._at = _At.BEHIND
            return thought, answer
        sizes = range(min(len(self._close) - 1, len(text)), 0, -1)
        held = next((size for size in sizes if text.endswith(self._close[:size])), 0)
        safe = len(text) - held
        self._held = text[safe:]
        return text[:safe], ""
