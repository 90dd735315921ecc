"""How a model is asked for the summary of a conversation, piece by piece, purely."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from workers.models.content import text_of
from workers.models.provider import ModelRequest

MAX_PIECES = 8  # of one summary; what is older than these is not in it
MAX_SAID_CHARS = 2000  # of one message in what is summarised
PIECE_BYTES = 48 * 1024  # of a conversation that one request summarises, where the window is not known
MAX_SUMMARY_CHARS = 6000

SUMMARISE = (
    "You summarise the beginning of a conversation between a person and an assistant, so that the assistant can go on "
    "without it. Keep names, numbers, dates, decisions, promises, open questions, what tools did, and what the person "
    "wants and dislikes. Write plain sentences, at most 300 words. Write only the summary."
)


def pieces_of(turns: Sequence[Sequence[bytes]], size: int) -> list[str]:
    """Turns in words, in pieces of at most ``size`` bytes; of more than :data:`MAX_PIECES` the newest.

    Args:
        turns: the messages of each as JSON, in order.
        size: in bytes.
    """
    pieces: list[str] = []
    for turn in turns:
        said = in_words(turn, max_chars=min(MAX_SAID_CHARS, size // 4))
        if pieces and len(pieces[-1].encode()) + len(said.encode()) < size:
            pieces[-1] = f"{pieces[-1]}\n{said}"
        else:
            pieces.append(said.encode()[:size].decode(errors="ignore"))
    return pieces[-MAX_PIECES:]


def in_words(rows: Sequence[bytes], *, max_chars: int) -> str:
    """A turn as a person would note it down: who said what, which tools were called, what they gave."""
    lines: list[str] = []
    for row in rows:
        message = orjson.loads(row)
        text = _bounded(text_of(message.get("content")), max_chars)
        match message.get("role"):
            case "user":
                lines.append(f"Person: {text}")
            case "assistant":
                if text:
                    lines.append(f"Assistant: {text}")
                for call in message.get("tool_calls") or ():
                    function = call.get("function") or {}
                    arguments = _bounded(str(function.get("arguments", "")), max_chars // 4)
                    lines.append(f"Assistant called {function.get('name', 'a tool')} with {arguments}")
            case "tool":
                lines.append(f"The tool answered: {_bounded(text, max_chars // 2)}")
    return "\n".join(lines)


def summary_request(before: str, piece: str) -> ModelRequest:
    """What the model is asked for a summary of an earlier summary and a piece of conversation."""
    earlier = f"Summary of what came before:\n{before}\n\n" if before else ""
    text = f"{earlier}Conversation:\n{piece}\n\nNow write one summary of all of this."
    return ModelRequest(system=SUMMARISE, messages=[orjson.dumps({"role": "user", "content": text})])


def _bounded(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[: chars * 2 // 3]} […] {text[len(text) - chars // 3 :]}"
