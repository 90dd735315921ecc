"""What a running turn tells, and to whom: the one who sent it, and those who sent it again with its Idempotency-Key."""

from __future__ import annotations

from collections.abc import Callable

from workers.turns import Delta, Ended, GatewayDraining, Reasoning, ToolProgress, TurnEvent

Listener = Callable[[TurnEvent], None]


class TurnFeed:
    """The events of one turn, told to its listeners as they happen, on the worker's loop."""

    __slots__ = (
        "_draining",
        "_heard",
        "_kept",
        "_kept_thoughts",
        "_listeners",
        "_texts",
        "_thoughts",
        "ended",
        "fingerprint",
        "on_abandoned",
        "turn_id",
    )

    def __init__(self, turn_id: str, fingerprint: bytes) -> None:
        self.turn_id = turn_id
        self.fingerprint = fingerprint
        self.ended: Ended | None = None
        self.on_abandoned: Callable[[], None] | None = None  # nobody listens any more
        self._listeners: list[tuple[Listener, bool]] = []
        self._texts: list[str] = []
        self._kept = 0  # of the texts: what was said before the answer that comes now
        self._thoughts: list[str] = []
        self._kept_thoughts = 0  # the same of them
        self._heard = False  # somebody has text of that answer
        self._draining: GatewayDraining | None = None

    @property
    def said(self) -> str:
        """All text so far, that before tool calls included."""
        return "".join(self._texts)

    def text(self, piece: str) -> None:
        """The model said more."""
        self._texts.append(piece)
        if self._listeners and self._tell(Delta(text=piece)) and not piece.isspace():
            self._heard = True

    def reasoning(self, piece: str) -> None:
        """The model thought more; who heard it may well hear it again, from the next try."""
        self._thoughts.append(piece)
        if self._listeners:
            self._tell(Reasoning(text=piece))

    def begin_answer(self) -> None:
        """The model is asked: its answer may break off."""
        self._kept = len(self._texts)
        self._kept_thoughts = len(self._thoughts)
        self._heard = False

    def take_back(self) -> bool:
        """Forget the text of the answer that broke off; False: somebody has some of it, so it stands."""
        if not self._heard:
            del self._texts[self._kept :]
            del self._thoughts[self._kept_thoughts :]
        return not self._heard

    def tool(self, call_id: str, tool: str, status: str) -> None:
        """A tool call began or ended."""
        if self._listeners:
            self._tell(ToolProgress(call_id=call_id, tool=tool, status=status))

    def draining(self, told: GatewayDraining | None) -> None:
        """The gateway drains, as who comes later to the stream is told too; or not any more. Nothing is said twice."""
        if told is not None and told != self._draining:
            self._tell(told)
        self._draining = told

    def send_away(self, ended: Ended) -> None:
        """Nobody shall wait for the turn any more, though it is not over; who comes later waits again."""
        listeners, self._listeners = self._listeners, []
        for listener, _ in listeners:
            listener(ended)
        self.abandon()

    def end(self, ended: Ended) -> None:
        """The turn is over and on disk; what is told later changes nothing."""
        if self.ended is not None:
            return
        self.ended = ended
        for listener, _ in self._listeners:
            listener(ended)
        self._listeners.clear()

    def listen(self, listener: Listener, *, stream: bool) -> None:
        """Hear the rest of the turn; who streams and comes late first hears the text so far."""
        if self.ended is not None:
            listener(self.ended)
            return
        if stream and self._thoughts:
            listener(Reasoning(text="".join(self._thoughts)))
        if stream and self._texts:
            listener(Delta(text="".join(self._texts)))
            self._heard = self._heard or len(self._texts) > self._kept
        if stream and self._draining is not None:
            listener(self._draining)
        self._listeners.append((listener, stream))

    def leave(self, listener: Listener) -> None:
        """Hear no more."""
        self._listeners = [entry for entry in self._listeners if entry[0] != listener]
        self.abandon()

    def abandon(self) -> None:
        """The caller for whom the turn was accepted went away; where nobody else listens, nobody does any more."""
        if not self._listeners and self.ended is None and self.on_abandoned is not None:
            self.on_abandoned()

    def _tell(self, event: TurnEvent) -> bool:
        """Tell those who stream; whether there is any."""
        told = False
        for listener, stream in self._listeners:
            if stream:
                listener(event)
                told = True
        return told
