"""What is odd about an answer that is one all the same: told in the log, each thing once a minute at most."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson
import structlog

from workers.models.log_throttle import LogThrottle
from workers.models.offer import Offer
from workers.models.provider import ModelReply
from workers.models.reply import ReplyBuilder

log = structlog.get_logger(__name__)

MAX_WORD_CHARS = 60  # told of a finish_reason that is not known
MAX_FIELDS = 10  # told by name of those that were dropped

# As the chat templates of models write a call, before a server has parsed it: Hermes and Qwen, Llama, Mistral,
# DeepSeek, Kimi, GLM and MiniMax, gpt-oss, Granite.
_MARKS = re.compile(
    r"<tool_calls?>|<\|?tool_call\|?>|<function[ =_]|<\|python_tag\|>|\[TOOL_CALLS\]"
    "|<\uff5ctool\u2581calls?\u2581begin\uff5c>"
    r"|<\|tool_calls?(?:_section)?_begin\|>|<(?:\w+:)?tool_call>|<invoke name=|<\|channel\|>commentary to="
)
_FENCE = "```"


class Oddities:
    """Tells them of one provider.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._throttle = LogThrottle(clock)

    def tell(self, reply: ModelReply, builder: ReplyBuilder, tools: Offer) -> None:
        """Look at an answer.

        Args:
            reply: the answer.
            builder: what it was built with.
            tools: that the model was offered.
        """
        if word := builder.odd_end[:MAX_WORD_CHARS]:
            self._say("a finish_reason that is not known counts as stop", reply, finish_reason=word)
        if names := builder.dropped:
            why = "dropped what the provider attached to its answer: it is too large to be kept"
            self._say(why, reply, fields=[name[:MAX_WORD_CHARS] for name in names[:MAX_FIELDS]])
        if tools.tools and not reply.tool_calls and is_call_as_text(reply.text, tools):
            self._say(
                "the model wrote a tool call as text, which calls nothing: have its server parse tool calls of this "
                "model (vLLM: --enable-auto-tool-choice --tool-call-parser; llama.cpp: --jinja)",
                reply,
            )

    def _say(self, what: str, reply: ModelReply, **more: object) -> None:
        if times := self._throttle.happened((what, reply.asked, more.get("finish_reason"))):
            log.warning(what, provider=reply.provider, model=reply.asked, times=times, **more)


def is_call_as_text(text: str, tools: Offer) -> bool:
    """Whether a text is, or holds, a tool call as models write it. In a block of code it is what the text is about."""
    begin = text.strip()
    if begin.startswith("{") and begin.endswith("}"):
        return _names_a_tool(begin, tools)
    return any(_MARKS.search(part) for part in text.split(_FENCE)[::2]) if "<" in text or "[TOOL" in text else False


def _names_a_tool(text: str, tools: Offer) -> bool:
    """Whether a text is an object with the name of a tool and its arguments."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    has_arguments = isinstance(value, dict) and ("arguments" in value or "parameters" in value)
    return has_arguments and any(value.get("name") == tool.name for tool in tools.tools)
