"""From the chunks of a chat completion to the whole reply, purely, whichever dialect the provider speaks.

What servers do beside the OpenAI API, and this takes, is described in :mod:`workers.models.tool_calls`, ``ends``,
``usage``, ``error_chunk`` and ``thinking``. Also: content as a list of parts; reasoning under several names;
a ``message`` instead of a ``delta``, as the next piece, as all so far, or as the whole behind the pieces; a last chunk
that says all once more. A body that is not streamed is one chunk whose choice has a ``message``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.models import ends
from workers.models.error_chunk import BrokenOff, Malformed, error_of, error_without_choices
from workers.models.pieces import Fields
from workers.models.provider import ModelReply
from workers.models.thinking import Thinking
from workers.models.tool_calls import ToolCalls
from workers.models.usage import counted

MAX_REPLY_CHARS = 8 * 1024 * 1024  # of text, and of the ids, names and arguments of tool calls, together

_FIELDS = frozenset({"role", "content", "refusal", "tool_calls", "function_call"})  # of a message; others are attached
_FIELDS_OF_A_CHUNK = frozenset({"id", "object", "created", "model", "choices", "usage", "system_fingerprint"})
_OBJECT = "chat.completion.chunk"
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_text")  # the same text, where there are several
_DETAILS = "reasoning_details"  # OpenRouter: a list of entries, some of them texts
_SHORTEST_REPETITION = 16  # characters; of what came in one piece before, a shorter one may be meant


class ReplyBuilder:
    """Feed it the chunks in order, finish it, then take the reply."""

    __slots__ = (
        "_attached",
        "_calls",
        "_chars",
        "_deltas",
        "_end",
        "_function_call",
        "_index",
        "_model",
        "_said",
        "_tagged",
        "_thinking",
        "_thoughts",
        "_usage",
        "answered",
        "complete",
        "dropped",
        "odd_end",
        "pieces",
        "thought",
    )

    def __init__(self) -> None:
        self._said: list[str] = []  # the contents as they came
        self._thinking: Thinking | None = Thinking()  # until it is sure that no more of it stands in the contents
        self._tagged = False  # some of it did
        self._thoughts: list[str] = []
        self._calls = ToolCalls(self._grow)
        self._function_call = ToolCalls(self._grow)  # the API's form before tool_calls; counts where there are none
        self._attached = Fields()
        self._deltas = False  # a delta has come: a message is the whole of them
        self._index: Any = None  # of the choice that counts: the first that comes
        self._end = ""
        self._usage: Mapping[str, int] = {}
        self._model = ""
        self._chars = 0
        self.answered = False  # a choice has come: this is a chat completion
        self.complete = False  # a finish_reason has come, or the reader of the stream saw its end mark
        self.pieces = 0  # of the answer so far: a chunk that brings none only keeps the connection alive
        self.thought = ""  # reasoning that is not shown yet; who shows it empties this
        self.odd_end = ""  # a finish_reason that is not known
        self.dropped: list[str] = []  # names of attached fields that are too large

    @property
    def is_message(self) -> bool:
        """Whether a message has come, and no delta."""
        return self.answered and not self._deltas

    def feed(self, chunk: Any) -> str:
        """Take a chunk; the piece of text in it.

        Raises:
            ErrorObject: the chunk is an error.
            BrokenOff: its ``finish_reason`` says that the provider failed.
            Malformed: it is no chunk, or the reply grows too large.
        """
        if type(chunk) is not dict:
            return self._take_odd(chunk)
        if error := chunk.get("error"):
            raise error_of(error, chunk)
        if (model := chunk.get("model")) and isinstance(model, str):
            self._model = model
        if usage := chunk.get("usage"):
            self._take_usage(usage)
        choices = chunk.get("choices")
        if not choices:
            self._take_other(chunk)
            return ""
        try:
            choice = choices[0] if type(choices) is list else choices
            index = choice.get("index")
            if index is not None and index != self._index:
                if self._index is not None:
                    return ""
                self._index = index
            return self._take_choice(choice, chunk)
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise Malformed(f"a chunk does not look like a chat completion's ({type(error).__name__})") from error

    def finish(self) -> str:
        """The stream is over: the piece of text that was held back."""
        thinking, self._thinking = self._thinking, None
        if thinking is None:
            return ""
        if thinking.unclosed and self._end != ends.LENGTH:  # it was no thinking: no text is lost
            self._thoughts.clear()
            return "".join(self._said)
        self._tagged = thinking.tagged
        thought, text = thinking.finish()
        self._think(thought)
        return text

    def reply(self, asked_model: str, *, provider: str = "") -> ModelReply:
        """The whole reply.

        Args:
            asked_model: for an answer that names no model.
            provider: whose answer it is.

        Raises:
            Malformed: no choice came, or a tool call has no name.
        """
        if not self.answered:
            raise Malformed("the answer holds no choice: check base_url")
        source = self._calls or self._function_call
        calls = tuple(source.calls()) if source else ()
        attached, dropped = self._attached.fields()
        self.dropped = source.dropped + dropped
        return ModelReply(
            text=self._text(),
            tool_calls=calls,
            finish_reason=self._end or (ends.TOOL_CALLS if calls else ends.STOP),
            usage=self._usage,
            model=self._model or asked_model,
            provider=provider,
            asked=asked_model,
            reasoning="".join(self._thoughts),
            attached=attached,
        )

    def _text(self) -> str:
        text = "".join(self._said)
        return Thinking().feed(text)[1] if self._tagged else text

    # -- chunks ---------------------------------------------------------------------------------------------------
    def _take_odd(self, chunk: Any) -> str:
        """A list of chunks, or a text, which is an error; null says nothing."""
        if isinstance(chunk, list):
            return "".join([self.feed(one) for one in chunk])
        if isinstance(chunk, str) and chunk.strip():
            raise error_of(chunk)
        if chunk:
            raise Malformed("a chunk is no JSON object")
        return ""

    def _take_other(self, chunk: dict[str, Any]) -> None:
        """A chunk without choices: usage, an error, or what only keeps the connection alive."""
        if chunk.keys() <= _FIELDS_OF_A_CHUNK and chunk.get("object") == _OBJECT:  # most say the usage so
            return
        if (error := error_without_choices(chunk)) is not None:
            raise error
        self._take_usage(_below(chunk, "x_groq", "usage"))

    def _take_choice(self, choice: dict[str, Any], chunk: dict[str, Any]) -> str:
        self.answered = True
        ended = self.complete
        if reason := choice.get("finish_reason"):
            ended = self._take_end(reason, choice, chunk) or ended
        elif error := choice.get("error"):
            raise error_of(error, choice)
        if delta := choice.get("delta"):
            text = self._take_delta(delta, ended=ended)
        elif message := choice.get("message"):
            text = self._take_message(message)
        else:
            text = choice.get("text") or ""  # as in the older completions
            self.pieces += bool(text)
        if not text or (ended and self._is_repetition(text)):
            return ""
        self._said.append(text)
        self._grow(len(text))
        return text if self._thinking is None else self._untagged(text)

    def _take_end(self, reason: Any, choice: dict[str, Any], chunk: dict[str, Any]) -> bool:
        """Why the answer ends; whether it does."""
        error = choice.get("error") or _below(chunk, "x_groq", "error")
        if error and not self.complete:
            raise error_of(error, choice)
        word = ends.word_of(reason)
        if not word:
            return False
        self._take_usage(choice.get("usage") or _below(chunk, "x_groq", "usage"))
        self.pieces += not self.complete
        if not ends.is_failure(word):
            self._end = ends.end_of(word) or ends.STOP
            self.odd_end = word if ends.end_of(word) is None else ""
            self.complete = True
        elif not self.complete:
            raise BrokenOff(word)
        return True

    # -- what a choice holds ----------------------------------------------------------------------------------------
    def _take_delta(self, delta: dict[str, Any], *, ended: bool) -> str:
        """The piece of text in a delta; the role alone stands in chunks that say nothing."""
        self._deltas = True
        content = refusal = ""
        attached = False
        brings = 0
        for name, value in delta.items():
            if not value or name == "role":
                attached = attached or (value == "" and name in _REASONING)
                continue
            brings = 1
            if name == "content":
                content = value
            elif name == "refusal":
                refusal = value
            elif name == "tool_calls":
                self._calls.take(value)
            elif name == "function_call":
                self._function_call.take({"function": value})
            else:
                attached = True
        self.pieces += brings
        if attached:
            self._take_attached(delta, ended=ended)
        content = content or refusal
        return content if type(content) is str else self._text_of_parts(content)

    def _take_message(self, message: dict[str, Any]) -> str:
        """What a message adds: it is the whole behind the deltas; where none came, all so far, or the next piece."""
        self.pieces += any(value for name, value in message.items() if name != "role")
        before = len(self._thoughts)
        content = message.get("content") or message.get("refusal") or ""
        text = content if type(content) is str else self._text_of_parts(content)
        reasoning = _reasoning_of(message)
        if self._deltas and before:
            del self._thoughts[before:]
        else:
            self._think(_added(reasoning, "".join(self._thoughts), whole=False))
        self._calls.take_whole(message.get("tool_calls"))
        if function := message.get("function_call"):
            self._function_call.take_whole({"function": function})
        for name, value in message.items():
            if name not in _FIELDS and (value or (value == "" and name in _REASONING)):
                (self._attached.replace if self._deltas else self._attached.add)(name, value)
        return _added(text, "".join(self._said), whole=self._deltas)

    def _take_attached(self, delta: dict[str, Any], *, ended: bool) -> None:
        reasoning = _reasoning_of(delta)
        if ended and len(self._thoughts) > 1 and reasoning == "".join(self._thoughts):
            return  # all of it once more
        self._think(reasoning)
        for name, value in delta.items():
            if name not in _FIELDS and (value or (value == "" and name in _REASONING)):
                self._attached.add(name, value)

    def _text_of_parts(self, parts: Any) -> str:
        """The text in a list of parts; thinking may stand in it too, as Mistral's models write it."""
        texts = []
        for part in parts if isinstance(parts, list) else [parts]:
            if isinstance(part, str):
                texts.append(part)
            elif thinking := part.get("thinking") or part.get("reasoning"):
                inner = thinking if isinstance(thinking, list) else [thinking]
                self._think("".join(one if isinstance(one, str) else one.get("text") or "" for one in inner))
            elif part.get("type") in ("text", "output_text", "refusal", None):
                texts.append(part.get("text") or part.get("refusal") or "")
        return "".join(texts)

    def _untagged(self, text: str) -> str:
        """A piece of the contents without the thinking in it."""
        assert self._thinking is not None
        if self._thinking.is_answer(text):  # most begin so
            self._thinking = None
            return text
        thought, text = self._thinking.feed(text)
        self._think(thought)
        if self._thinking.over:
            self._tagged = self._thinking.tagged
            self._thinking = None
        return text

    def _think(self, piece: str) -> None:
        if piece:
            self._thoughts.append(piece)
            self.thought += piece
            self._grow(len(piece))

    def _is_repetition(self, text: str) -> bool:
        """Whether the last chunk says the whole answer once more."""
        if len(self._said) < 2 and len(text) < _SHORTEST_REPETITION:
            return False
        return text == "".join(self._said)

    def _take_usage(self, usage: Any) -> None:
        if usage and (known := counted(usage, self._usage)) != self._usage:
            self.pieces += 1
            self._usage = known

    def _grow(self, chars: int) -> None:
        self._chars += chars
        if self._chars > MAX_REPLY_CHARS:
            raise Malformed(f"the reply is longer than {MAX_REPLY_CHARS} characters")


def _added(text: str, before: str, *, whole: bool) -> str:
    """What a text adds to what came before: it may be ``whole``, and is where it begins with that and goes on."""
    if before and text.startswith(before) and (whole or len(text) > len(before)):
        return text.removeprefix(before)
    return "" if before and whole else text


def _reasoning_of(fields: dict[str, Any]) -> str:
    """The reasoning in a delta or a message, which may say it under several names."""
    for name in _REASONING:
        if isinstance(value := fields.get(name), str) and value:
            return value
    details = fields.get(_DETAILS)
    if not isinstance(details, list):
        return ""
    texts = (entry.get("text") or entry.get("summary") for entry in details if isinstance(entry, dict))
    return "".join(text for text in texts if isinstance(text, str))


def _below(chunk: dict[str, Any], outer: str, name: str) -> Any:
    """What an object in the chunk says."""
    inner = chunk.get(outer)
    return inner.get(name) if isinstance(inner, dict) else None
