"""What a running turn says, and who hears it: its caller, callers with the same Idempotency-Key, and readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from workers.turns import Delta, Ended, GatewayDraining, NumberedEvent, Reasoning, ToolProgress, TurnEvent

MAX_KEPT_PROGRESS = 2000  # events of tools that a feed keeps for those who read the turn later

Listener = Callable[[TurnEvent], None]
Reader = Callable[[NumberedEvent], None]


class _Listening(NamedTuple):
    listener: Listener
    stream: bool  # it hears more than the end
    caller: bool  # it sent the turn's message


class _AnswerStart(NamedTuple):
    """Where an answer of the model begins in what the turn said, thought and called so far."""

    seq: int
    texts: int
    thoughts: int
    progress: int


class TurnFeed:
    """The events of one turn, as its listeners hear them, on the worker's loop."""

    __slots__ = (
        "_answers",
        "_draining",
        "_heard",
        "_kept",
        "_kept_thoughts",
        "_listeners",
        "_progress",
        "_seq",
        "_texts",
        "_thoughts",
        "caller_left",
        "ended",
        "fingerprint",
        "on_abandoned",
        "turn_id",
    )

    def __init__(self, turn_id: str, fingerprint: bytes) -> None:
        self.turn_id = turn_id
        self.fingerprint = fingerprint
        self.ended: Ended | None = None
        self.on_abandoned: Callable[[], None] | None = None  # its last listener left
        self.caller_left = False  # the connections of all its callers are gone
        self._listeners: list[_Listening] = []
        self._texts: list[str] = []
        self._kept = 0  # of the texts: what was said before the answer that comes now
        self._thoughts: list[str] = []
        self._kept_thoughts = 0  # the same of them
        self._heard = False  # a listener has text of that answer
        self._draining: GatewayDraining | None = None
        self._answers = [_AnswerStart(1, 0, 0, 0)]
        self._progress: list[NumberedEvent] = []  # of tools
        self._seq = 1  # of the last message

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
        """The model thought more; a listener may hear it again, from the next try."""
        self._thoughts.append(piece)
        if self._listeners:
            self._tell(Reasoning(text=piece))

    def begin_answer(self) -> None:
        """The model is asked: its answer may break off."""
        self._kept = len(self._texts)
        self._kept_thoughts = len(self._thoughts)
        self._heard = False
        if self._seq > self._answers[-1].seq:  # tools have answered since
            self._seq += 1
            self._answers.append(_AnswerStart(self._seq, self._kept, self._kept_thoughts, len(self._progress)))

    def take_back(self) -> bool:
        """Forget the text of the answer that broke off; False: a listener has some of it, so it stays."""
        if not self._heard:
            del self._texts[self._kept :]
            del self._thoughts[self._kept_thoughts :]
        return not self._heard

    def tool(self, call_id: str, tool: str, status: str) -> None:
        """A tool call began or ended."""
        event = ToolProgress(call_id=call_id, tool=tool, status=status)
        if status != "running":
            self._seq += 1
        if len(self._progress) < MAX_KEPT_PROGRESS:
            self._progress.append(NumberedEvent(seq=self._seq_of(event), event=event))
        if self._listeners:
            self._tell(event)

    def draining(self, news: GatewayDraining | None) -> None:
        """The gateway drains, or no longer does. Late listeners hear it too, and none hears it twice."""
        if news is not None and news != self._draining:
            self._tell(news)
        self._draining = news

    def send_away(self, ended: Ended) -> None:
        """Let no listener wait for the turn any longer, though it is not over; those who come later wait."""
        listeners, self._listeners = self._listeners, []
        for entry in listeners:
            entry.listener(ended)
        self.abandon()

    def end(self, ended: Ended) -> None:
        """The turn is over and on disk; another end changes nothing."""
        if self.ended is not None:
            return
        self.ended = ended
        for entry in self._listeners:
            entry.listener(ended)
        self._listeners.clear()

    def listen(self, listener: Listener, *, stream: bool) -> None:
        """Hear the rest of the turn; a listener who streams and comes late first hears the text so far."""
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
        self._listeners.append(_Listening(listener, stream, caller=True))
        self.caller_left = False

    def numbering(self, reader: Reader) -> Listener:
        """A listener that passes events on as they happen, with their numbers; for :meth:`read`."""
        return lambda event: reader(NumberedEvent(seq=self._seq_of(event), event=event))

    def read(self, reader: Reader, listener: Listener, after: int) -> None:
        """Hear again what the messages after this one say, each joined, and then the rest of the turn.

        Args:
            reader: hears the events.
            listener: of the same reader; :meth:`leave` takes it.
            after: number of a message; 0 for all.
        """
        for numbered in self._so_far():
            if numbered.seq > after:
                reader(numbered)
        if self.ended is not None:
            listener(self.ended)
            return
        self._heard = self._heard or len(self._texts) > self._kept
        if self._draining is not None:
            listener(self._draining)
        self._listeners.append(_Listening(listener, stream=True, caller=False))

    def _seq_of(self, event: TurnEvent) -> int:
        """The number of an event that happens now."""
        if isinstance(event, ToolProgress) and event.status != "running":
            return self._seq
        return self._seq + 1 if isinstance(event, Ended) else self._answers[-1].seq

    def _so_far(self) -> Iterator[NumberedEvent]:
        over = _AnswerStart(0, len(self._texts), len(self._thoughts), len(self._progress))
        for answer, following in pairwise([*self._answers, over]):
            if thoughts := "".join(self._thoughts[answer.thoughts : following.thoughts]):
                yield NumberedEvent(seq=answer.seq, event=Reasoning(text=thoughts))
            if text := "".join(self._texts[answer.texts : following.texts]):
                yield NumberedEvent(seq=answer.seq, event=Delta(text=text))
            yield from self._progress[answer.progress : following.progress]

    def leave(self, listener: Listener) -> None:
        """Hear no more."""
        self._listeners = [entry for entry in self._listeners if entry.listener != listener]
        self.abandon()

    def abandon(self) -> None:
        """The caller for whom the turn was accepted went away; without other listeners it is abandoned."""
        self.caller_left = not any(entry.caller for entry in self._listeners)
        if not self._listeners and self.ended is None and self.on_abandoned is not None:
            self.on_abandoned()

    def _tell(self, event: TurnEvent) -> bool:
        """Tell those who stream; whether there is any."""
        heard = False
        for listener, stream, _ in self._listeners:
            if stream:
                listener(event)
                heard = True
        return heard
