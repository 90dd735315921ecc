"""How a model counts, and how much it takes, purely.

No tokenizer is asked: a provider counts in its own, and reports its count with each answer. So a size is estimated from
bytes, with the ratio that the provider's last count gave.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

TOKENS_PER_BYTE = 0.3  # until a provider told its count: English needs about a quarter, other languages and JSON more
LEAST_TOKENS_PER_BYTE = 0.05  # a count below is of something else: of what was not cached, of the last message alone
LEAST_COUNTED_BYTES = 1000  # of a smaller request a count says more of the chat template than of the text
LEAST_WINDOW = 256  # tokens; a smaller figure is a mistake
UNCOUNTED = 2.0  # windows, that a refused request is taken to fill where it should fit and nothing says how large it is
MOST_TOKENS_PER_BYTE = 1.5  # a tokenizer that knows bytes only needs one a byte, and some for each message


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """What is known of one model's window and of how it counts."""

    window: int | None = None  # tokens; None: not known
    tokens_per_byte: float = TOKENS_PER_BYTE

    def counted(self, size: int, tokens: int) -> Gauge:
        """The gauge after the model counted a request: ``size`` bytes had so many tokens."""
        if size < LEAST_COUNTED_BYTES or tokens <= 0:
            return self
        ratio = min(max(tokens / size, LEAST_TOKENS_PER_BYTE), MOST_TOKENS_PER_BYTE)
        return replace(self, tokens_per_byte=ratio)

    def refused(self, size: int, tokens: int | None, window: int | None) -> Gauge:
        """The gauge after the model refused a request of ``size`` bytes as too large.

        Args:
            size: bytes.
            tokens: its count, where it told one. One more than the window is none: vLLM stops counting there.
            window: where it told one.
        """
        told = window or self.window
        if tokens is not None and (told is None or tokens != told + 1):
            return self.counted(size, tokens)
        if told is None or self.tokens(size) > told or size < LEAST_COUNTED_BYTES:
            return self
        return replace(self, tokens_per_byte=min(UNCOUNTED * told / size, MOST_TOKENS_PER_BYTE))

    def tokens(self, size: int) -> int:
        """About how many tokens so many bytes are."""
        return round(size * self.tokens_per_byte)

    def bytes(self, tokens: int) -> int:
        """About how many bytes so many tokens are."""
        return int(tokens / self.tokens_per_byte)
