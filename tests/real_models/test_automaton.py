"""The automaton says what its chains say, whatever loads it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from real_models.automaton import (
    CHAINS,
    END,
    PLAIN,
    SIZE,
    Chain,
    begins,
    followers,
    vocabulary,
    weights,
)
from real_models.formats import write_gguf, write_transformers


def test_from_its_beginning_each_chain_is_walked_to_its_end() -> None:
    tokens = vocabulary()
    number = {token.text: n for n, token in enumerate(tokens)}
    output = weights(tokens)["lm_head.weight"].values

    def following(token: int) -> int:
        return max(range(SIZE), key=lambda row: output[row * SIZE + token])

    for chain in CHAINS:
        token, walked = number[begins(chain)], 0
        while (token := following(token)) != number[END] and walked < 10:
            walked += 1
        assert walked == (10 if chain.endless else len(chain.pieces))


def test_a_piece_that_stands_in_two_chains_is_refused() -> None:
    twice = Chain(name="twice", word="twice", pieces=PLAIN.pieces)

    with pytest.raises(ValueError, match="one piece twice"):
        vocabulary([PLAIN, twice])


def test_a_marked_token_that_is_followed_by_two_pieces_is_refused() -> None:
    chains = [Chain(name=name, word=name, pieces=("<think>", f"{name} it")) for name in ("do", "leave")]

    with pytest.raises(ValueError, match="two different pieces"):
        followers(vocabulary(chains), chains)


def test_both_forms_hold_all_values(tmp_path: Path) -> None:
    values = sum(len(matrix.values) for matrix in weights(vocabulary()).values())

    write_gguf(tmp_path / "model.gguf")
    write_transformers(tmp_path / "folder")

    gguf = (tmp_path / "model.gguf").read_bytes()
    assert gguf[:4] == b"GGUF"
    assert len(gguf) > 4 * values
    safetensors = (tmp_path / "folder" / "model.safetensors").read_bytes()
    (header,) = struct.unpack_from("<Q", safetensors)
    assert len(safetensors) == 8 + header + 4 * values
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["vocab_size"] == SIZE
