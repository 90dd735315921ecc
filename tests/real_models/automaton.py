"""A language model without weights to download: a finite automaton in the form of a small Llama.

Embeddings are one-hot, attention and feed-forward are zero: so the next token depends on the last one alone, and the
output matrix is the table of what follows what. The chat template reads the last message and chooses the chain that the
answer walks along. Everything around the table is the real thing of the server that loads it: tokenizer, template,
grammar, tool parser, HTTP.

A prompt costs one token a byte (only two spaces in a row share one), so the size of a prompt is known beforehand.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Kind = Literal["control", "marked", "text", "unused"]

BEGIN, END = "<|im_start|>", "<|im_end|>"
MARKED = ("<tool_call>", "</tool_call>", "<think>", "</think>")  # one token each; parsers look for them
TWO_SPACES = "  "  # the one merge: loaders refuse a tokenizer without any
SIZE = 320  # tokens, and the width of the model: a token is a dimension
HEADS, FEED_FORWARD = 5, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """An answer, piece by piece; a piece is a token."""

    name: str
    word: str | None  # in the last message chooses it; None: chosen otherwise
    pieces: tuple[str, ...]
    endless: bool = False  # begins again where it is over

    @property
    def text(self) -> str:
        """The answer once."""
        return "".join(self.pieces)


def call(tool: str, **arguments: str) -> tuple[str, ...]:
    """The pieces of a call in the dialect that servers call Hermes, as many as there are places to cut it."""
    pieces = ["<tool_call>", '\n{"name": "', tool, '", "arguments": {']
    for number, (name, value) in enumerate(arguments.items()):
        pieces += [f'{", " if number else ""}"{name}": "', f'{value}"']
    return (*pieces, "}}\n", "</tool_call>")


PLAIN = Chain(name="plain", word=None, pieces=("po", "ng"))
AFTER_A_RESULT = Chain(name="after_a_result", word=None, pieces=("The tool", " answered."))
ASKED_FOR: tuple[Chain, ...] = (
    Chain(name="call", word="time", pieces=call("mcp__time__get_current_time", timezone="UTC")),
    Chain(name="endless", word="endless", pieces=("on", " and "), endless=True),
    Chain(name="nothing", word="silence", pieces=()),
    Chain(name="thought", word="ponder", pieces=("<think>", "first a thought", "</think>", "then words")),
)
CHAINS = (PLAIN, AFTER_A_RESULT, *ASKED_FOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An entry of the vocabulary; ``text`` in the letters of byte-level tokenizers."""

    text: str
    kind: Kind


def as_letters(text: str) -> str:
    """Text as byte-level tokenizers write it: each byte is a letter that can be printed (GPT-2's table)."""
    return "".join(_LETTERS[byte] for byte in text.encode())


def _letters() -> list[str]:
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


_LETTERS = _letters()


def begins(chain: Chain) -> str:
    """The control token that the template puts before a chain."""
    return f"<|{chain.name}|>"


def vocabulary(chains: Iterable[Chain] = CHAINS) -> list[Token]:
    """All tokens, by number.

    Raises:
        ValueError: a piece stands in two places, so that what follows it is not settled, or there are too many.
    """
    chains = list(chains)
    pieces = [piece for chain in chains for piece in chain.pieces if piece not in MARKED]
    tokens = [Token(text=text, kind="control") for text in (BEGIN, END, *map(begins, chains))]
    tokens += [Token(text=text, kind="marked") for text in MARKED]
    tokens += [Token(text=letter, kind="text") for letter in _LETTERS]
    tokens += [Token(text=as_letters(piece), kind="text") for piece in (TWO_SPACES, *pieces)]
    tokens += [Token(text=f"<|unused{number}|>", kind="unused") for number in range(SIZE - len(tokens))]
    if len(tokens) > SIZE or len({token.text for token in tokens}) < len(tokens):
        raise ValueError("the chains have too many pieces, or one piece twice")
    return tokens


def followers(tokens: Sequence[Token], chains: Iterable[Chain] = CHAINS) -> dict[int, int]:
    """Which token follows which; all others are followed by the end.

    Raises:
        ValueError: a marked token is followed by different ones.
    """
    number = {token.text: n for n, token in enumerate(tokens)}
    follows: dict[int, int] = {}
    for chain in chains:
        path = [number[begins(chain)]]
        path += [number[piece if piece in MARKED else as_letters(piece)] for piece in chain.pieces]
        path.append(path[1] if chain.endless else number[END])
        for token, following in pairwise(path):
            if follows.setdefault(token, following) != following:
                raise ValueError(f"{tokens[token].text!r} is followed by two different pieces")
    return follows


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A tensor of the model, row by row."""

    shape: tuple[int, ...]  # rows first
    values: array[float]


def weights(tokens: Sequence[Token], chains: Iterable[Chain] = CHAINS) -> dict[str, Matrix]:
    """The tensors of a Llama of one layer, by the names of the transformers library."""
    follows = followers(tokens, chains)
    end = next(n for n, token in enumerate(tokens) if token.text == END)
    layer, width = "model.layers.0", (SIZE, SIZE)
    return {
        "model.embed_tokens.weight": _filled(width, ((n, n, 1.0) for n in range(SIZE))),
        # The norm before it makes a one-hot row sqrt(SIZE) high, so that no temperature below 3 strays from the table.
        "lm_head.weight": _filled(width, ((follows.get(n, end), n, 2.0) for n in range(SIZE))),
        "model.norm.weight": _ones(),
        f"{layer}.input_layernorm.weight": _ones(),
        f"{layer}.post_attention_layernorm.weight": _ones(),
        **{f"{layer}.self_attn.{part}_proj.weight": _filled(width) for part in "qkvo"},
        f"{layer}.mlp.gate_proj.weight": _filled((FEED_FORWARD, SIZE)),
        f"{layer}.mlp.up_proj.weight": _filled((FEED_FORWARD, SIZE)),
        f"{layer}.mlp.down_proj.weight": _filled((SIZE, FEED_FORWARD)),
    }


def _filled(shape: tuple[int, int], ones: Iterable[tuple[int, int, float]] = ()) -> Matrix:
    values = array("f", bytes(4 * shape[0] * shape[1]))
    for row, column, value in ones:
        values[row * shape[1] + column] = value
    return Matrix(shape=shape, values=values)


def _ones() -> Matrix:
    return Matrix(shape=(SIZE,), values=array("f", [1.0]) * SIZE)


def template(asked_for: Mapping[str, str] | None = None) -> str:
    """The chat template (Jinja): the conversation in ChatML, tools in front, then where the answer begins."""
    asked_for = asked_for or {chain.word: begins(chain) for chain in ASKED_FOR if chain.word}
    branches = "".join(
        f"{{%- {'elif' if number else 'if'} '{word}' in last.text -%}}{{{{- '{token}' -}}}}"
        for number, (word, token) in enumerate(asked_for.items())
    )
    chosen = f"{branches}{{%- else -%}}{{{{- '{begins(PLAIN)}' -}}}}{{%- endif -%}}"
    return _TEMPLATE.replace("CHOSEN", chosen).replace("RESULT", begins(AFTER_A_RESULT))


_TEMPLATE = r"""{%- if tools -%}
{{- '<|im_start|>system\nTools:\n<tools>' -}}{%- for tool in tools -%}{{- '\n' + (tool | tojson) -}}{%- endfor -%}
{{- '\n</tools>\nCall one with <tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n' -}}
{{- '</tool_call><|im_end|>\n' -}}
{%- endif -%}
{%- set last = namespace(text='') -%}
{%- for message in messages -%}
{%- set last.text = '' -%}
{%- if message.content is string -%}{%- set last.text = message.content -%}
{%- elif message.content -%}
{%- for part in message.content -%}
{%- if part.text -%}{%- set last.text = last.text + part.text -%}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\n' -}}
{%- if message.reasoning_content -%}{{- '<think>' + message.reasoning_content + '</think>' -}}{%- endif -%}
{{- last.text -}}
{%- for call in message.tool_calls or [] -%}
{{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) -}}
{{- '}\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\n' -}}
{%- if messages[-1].role == 'tool' -%}{{- 'RESULT' -}}
{%- else -%}CHOSEN{%- endif -%}
{%- endif -%}"""
