"""The automaton as files that model servers load: a GGUF file, or a folder of the transformers library."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from real_models import automaton
from real_models.automaton import BEGIN, END, FEED_FORWARD, HEADS, SIZE, Matrix, as_letters

CONTEXT = 32_768  # positions that the model says it knows; a server is told how many it may use
EPSILON = 1e-5  # of the norms

# -- GGUF, version 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md ---------------------------------------
GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.0.input_layernorm": "blk.0.attn_norm",
    "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
    **{f"model.layers.0.self_attn.{part}_proj": f"blk.0.attn_{part}" for part in "qkv"},
    "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
    **{f"model.layers.0.mlp.{part}_proj": f"blk.0.ffn_{part}" for part in ("gate", "up", "down")},
}
TOKEN_TYPES = {"text": 1, "control": 3, "unused": 3, "marked": 4}  # normal, control, user-defined
ALIGNMENT = 32  # bytes
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9  # kinds of metadata
_PACKED = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}


def write_gguf(path: Path) -> None:
    """The file that llama.cpp loads, about 3 MB."""
    tokens = automaton.vocabulary()
    number = {token.text: n for n, token in enumerate(tokens)}
    space = as_letters(" ")
    metadata = {
        "general.architecture": (STRING, "llama"),
        "llama.context_length": (U32, CONTEXT),
        "llama.embedding_length": (U32, SIZE),
        "llama.block_count": (U32, 1),
        "llama.feed_forward_length": (U32, FEED_FORWARD),
        "llama.attention.head_count": (U32, HEADS),
        "llama.attention.head_count_kv": (U32, HEADS),
        "llama.attention.layer_norm_rms_epsilon": (F32, EPSILON),
        "llama.rope.dimension_count": (U32, SIZE // HEADS),
        "llama.vocab_size": (U32, SIZE),
        "tokenizer.ggml.model": (STRING, "gpt2"),
        "tokenizer.ggml.pre": (STRING, "gpt-2"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, [token.text for token in tokens])),
        "tokenizer.ggml.token_type": (ARRAY, (I32, [TOKEN_TYPES[token.kind] for token in tokens])),
        "tokenizer.ggml.merges": (ARRAY, (STRING, [f"{space} {space}"])),
        "tokenizer.ggml.bos_token_id": (U32, number[BEGIN]),
        "tokenizer.ggml.eos_token_id": (U32, number[END]),
        "tokenizer.ggml.add_bos_token": (BOOL, False),
        "tokenizer.chat_template": (STRING, automaton.template()),
    }
    tensors = {_gguf_name(name): matrix for name, matrix in automaton.weights(tokens).items()}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, (kind, value) in metadata.items():
        head += _string(key) + struct.pack("<I", kind) + _value(kind, value)
    offset, bodies = 0, list[bytes]()
    for name, matrix in tensors.items():
        shape = matrix.shape[::-1]  # columns first there
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        bodies.append(_aligned(_little_endian(matrix)))
        offset += len(bodies[-1])
    path.write_bytes(_aligned(head) + b"".join(bodies))


def _gguf_name(name: str) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{GGUF_NAMES[stem]}.{ending}"


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _string(value)
    if kind == ARRAY:
        of, items = value
        return struct.pack("<IQ", of, len(items)) + b"".join(_value(of, item) for item in items)
    return struct.pack(_PACKED[kind], value)


def _aligned(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % ALIGNMENT)


def _little_endian(matrix: Matrix) -> bytes:
    values = matrix.values[:]
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


# -- the transformers library -----------------------------------------------------------------------------------------
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": SIZE,
    "intermediate_size": FEED_FORWARD,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": SIZE // HEADS,
    "num_hidden_layers": 1,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": EPSILON,
    "rope_theta": 10_000.0,
    "vocab_size": SIZE,
    "tie_word_embeddings": False,
    "dtype": "float32",
    "torch_dtype": "float32",  # the older name
}


def write_transformers(folder: Path) -> None:
    """The folder that vLLM and the transformers library load, about 3 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = automaton.vocabulary()
    number = {token.text: n for n, token in enumerate(tokens)}
    begin_end = {"bos_token_id": number[BEGIN], "eos_token_id": number[END], "pad_token_id": number[END]}
    added = [
        {
            "id": n, "content": token.text, "special": token.kind in ("control", "unused"),
            "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        }
        for n, token in enumerate(tokens)
        if token.kind != "text"
    ]  # fmt: skip
    space = as_letters(" ")
    assert as_letters(automaton.TWO_SPACES) == space * 2
    bytes_as_letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": bytes_as_letters,
        "post_processor": None,
        "decoder": bytes_as_letters,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": number,
            "merges": [[space, space]],
        },
    }  # fmt: skip
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "chat_template": automaton.template(),
    }
    files: dict[str, Mapping[str, Any]] = {
        "config.json": CONFIG | begin_end,
        "generation_config.json": begin_end,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": tokenizer_config,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(_safetensors(automaton.weights(tokens)))


def _safetensors(tensors: Mapping[str, Matrix]) -> bytes:
    """https://github.com/huggingface/safetensors: the length of the header, the header as JSON, the values."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, matrix in tensors.items():
        raw = _little_endian(matrix)
        header[name] = {"dtype": "F32", "shape": matrix.shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    return struct.pack("<Q", len(packed)) + packed + body
