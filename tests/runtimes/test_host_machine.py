"""Whatever a runtime does, its host commits before it acts: any order, at once, with failures, cuts, and no end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import orjson
from fakes.rows import validate
from fakes.sessions import Bench, FakeModel, FakeToolbox, bounded, end_of
from fakes.shard_store import FakeShardStore
from fakes.valid_request import problems
from fakes.virtual_time import LOOP_FACTORIES, step, time_passes, until
from fakes.wilful_runtime import ANYTIME, IDS, OF_CALLS, STRAY_S, Act, WilfulRuntime, Will
from hypothesis import given
from hypothesis import strategies as st
from runtimes.conftest import closed

from hermes_actors.config.model import SessionsConfig
from workers.models.provider import ModelFailure, ModelReply, ModelRequest, ToolCall
from workers.runtimes.transcript import closing
from workers.store.shard import StoreFailed
from workers.tools.toolbox import ToolResult
from workers.turn_errors import cancelled_error
from workers.turns import Delta, Ended, TurnEvent


class Watch:
    """Sees what is on disk, as a crash would leave it, and what happens before it may."""

    def __init__(self) -> None:
        self.durable: list[bytes] = []  # messages of the one turn whose commit was answered, but for its own
        self.over = False
        self.broken: list[str] = []  # promises, in words: what a test's fakes raise, a turn takes for a bug

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)


class DurableStore(FakeShardStore):
    """Tells the watch which commits are answered.

    Args:
        fails_at: the number of the append that fails.
    """

    def __init__(self, watch: Watch, fails_at: int | None) -> None:
        super().__init__()
        self._watch = watch
        self._written: list[bytes] = []
        self._appends = 0
        self._fails_at = fails_at

    async def append(self, turn_id: str, session_id: str, rows: Sequence[bytes]) -> None:
        self._appends += 1
        if self._appends == self._fails_at:
            await self.answer("append")
            raise StoreFailed("the disk is full")
        self._written += rows
        number = len(self._written)
        await super().append(turn_id, session_id, rows)
        durable = self._watch.durable = self._written[: max(number, len(self._watch.durable))]
        try:
            validate([*durable, *closing(durable)])
        except AssertionError as error:
            self._watch.broken.append(str(error))


class WatchedToolbox(FakeToolbox):
    """Tells the watch whether the disk knows of a call."""

    watch: Watch

    async def call(self, call: ToolCall) -> ToolResult:
        open_calls = [orjson.loads(row)["tool_call_id"] for row in closing(self.watch.durable)]
        self.watch.expect(call.call_id in open_calls, f"{call.call_id} is called; on disk {open_calls} are open")
        self.watch.expect(not self.watch.over, "a tool is called after the turn's end")
        return await super().call(call)


class WatchedModel(FakeModel):
    """Tells the watch whether what it is asked about is on disk."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch
        self._answers = False

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        watch = self._watch
        watch.expect(len(watch.durable) >= len(request.messages) - 1, "the model is asked about what is not on disk")
        watch.expect(not watch.over, "the model is asked after the turn's end")
        watch.expect(not self._answers, "the model is asked two things at a time")
        self._answers = True
        try:
            await step()  # a model is always elsewhere
            return await super().complete(request, on_text)
        finally:
            self._answers = False


_IDS = st.lists(st.sampled_from(IDS), min_size=1, max_size=2, unique=True).map(tuple)
_ACTS = st.one_of(
    st.builds(Act, st.sampled_from(ANYTIME)),
    st.builds(Act, st.sampled_from(OF_CALLS), _IDS),
)
_USUAL = _IDS.map(lambda ids: [[Act("keep calls", ids)], [Act("call", ids)], [Act("keep result", ids)]])
_STEPS = st.one_of(_USUAL, st.lists(st.lists(_ACTS, min_size=1, max_size=3), max_size=3))
_WILLS = st.builds(
    Will,
    acts=st.lists(_STEPS, max_size=4).map(lambda steps: [together for some in steps for together in some]),
    tolerant=st.booleans(),
    end=st.sampled_from(["outcome", "error", "raise", "hang", "hang through a cut", "nothing"]),
    stays=st.lists(_ACTS, max_size=3),
)


@given(
    will=_WILLS,
    cut_after=st.one_of(st.none(), st.integers(0, 20)),
    fails_at=st.one_of(st.none(), st.integers(1, 3)),
)
def test_whatever_a_runtime_does_nothing_happens_before_its_commit_and_the_transcript_is_valid(
    will: Will, cut_after: int | None, fails_at: int | None
) -> None:
    with asyncio.Runner(loop_factory=LOOP_FACTORIES["virtual"]) as runner:
        runner.run(_turn(will, cut_after, fails_at))


async def _turn(will: Will, cut_after: int | None, fails_at: int | None) -> None:
    watch, runtime = Watch(), WilfulRuntime(will)
    model, store = WatchedModel(watch), DurableStore(watch, fails_at)
    WatchedToolbox.watch = watch
    bench = Bench(SessionsConfig(), runtime=runtime, model=model, store=store)
    bench.toolbox_class = WatchedToolbox
    feed = await bench.send("hi")

    def hear(event: TurnEvent) -> None:
        if isinstance(event, Delta):
            promised = runtime.promised.get(event.text, 0)
            watch.expect(len(watch.durable) >= promised, f"{event.text!r} is heard before what was kept is on disk")
        watch.over = watch.over or isinstance(event, Ended)

    feed.listen(hear, stream=True)
    for _ in range(cut_after or 0):
        await step()
    hangs = will.end.startswith("hang")
    if hangs and cut_after is None:
        await until(lambda: runtime.hangs or feed.ended is not None)
    if cut_after is not None or hangs:
        for session in bench.sessions:
            session.cancel(feed.turn_id, cancelled_error())
    ended = await end_of(feed)

    assert not watch.broken
    assert not hangs or ended.state != "completed"
    on_disk = bench.store.messages.get(feed.turn_id, [])
    stored = bench.store.rows[feed.turn_id].ended
    if stored is None:
        assert ended.error is not None
        assert ended.error["code"] == "store_failed"
        validate([*on_disk, *closing(on_disk)])
    else:
        assert stored == ended
        validate(on_disk)
        assert on_disk[1 : 1 + len(runtime.kept)] == runtime.kept
    await time_passes(STRAY_S)
    assert not watch.broken
    assert bench.store.messages.get(feed.turn_id, []) == on_disk
    await asyncio.gather(*runtime.left)
    watch.over = False
    runtime.will = Will(acts=[[Act("ask")]], tolerant=False, end="outcome")
    runtime.kept.clear()
    assert (await bounded(bench.talk("and now?"))).state == "completed"
    assert not problems(model.requests[-1])
    await closed(bench)
