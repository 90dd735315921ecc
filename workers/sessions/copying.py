"""Sessions that begin with a copy of another one's transcript.

The owner of the old session reads its turns, and the owner of the new one commits them all in one commit. The copies
have ids that follow from the turns and the new session. So a copy that is asked for again is recognised, also where the
first answer was lost with its worker.
"""

from __future__ import annotations

from dataclasses import replace

from hermes_actors.wire.refusals import RefusalCode
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.residents import Residents
from workers.store.shard import TranscriptCopy
from workers.turn_ids import copied_turn_id
from workers.turns import Refusal

MAX_COPIED_BYTES = 8 * 1024 * 1024  # it fits a frame between workers, and its commit holds up others for a moment only


async def copy_of(key: str, through: str | None, shard: OwnedShard, sessions: Residents) -> TranscriptCopy:
    """The turns of a session that are over, for another one to begin with.

    Args:
        key: the session's.
        through: the turn that is the last of them; None: all.
        shard: the session's.
        sessions: know which transcript it goes on with.

    Raises:
        Refusal: ``session_not_found``; ``turn_not_found``, the transcript has no such turn; ``message_too_large``;
            ``shard_unavailable``.
        StoreFailed: the disk does not answer.
    """
    copy = await shard.store.copy(key, await sessions.session_id(key, shard), through, MAX_COPIED_BYTES)
    if copy is None:
        why = f"The transcript up to this turn is larger than {MAX_COPIED_BYTES} bytes: name an earlier turn."
        raise Refusal(RefusalCode.MESSAGE_TOO_LARGE, why)
    if through is not None and (not copy.turns or copy.turns[-1].turn_id != through):
        raise Refusal(RefusalCode.TURN_NOT_FOUND, "The session's transcript has no such turn that is over.")
    return copy


async def begin(key: str, principal: str, copy: TranscriptCopy, shard: OwnedShard, sessions: Residents) -> None:
    """Make a session, whose transcript begins with a copy; nothing changes where it began with the same copy before.

    Raises:
        Refusal: ``session_exists``, with turns of its own; ``shard_unavailable``.
        StoreFailed: the copy could not be stored; the session may be there without it.
    """
    copy = _with_ids_of(copy, key, shard.number)
    async with sessions.alone(key):
        if copy.turns:
            row = await shard.store.turn(copy.turns[-1].turn_id)
            if row is not None and row.submission.key == key:
                return
        if sessions.get(key) is not None or any((await shard.store.counts(key)).values()):
            raise Refusal(RefusalCode.SESSION_EXISTS, "There is a session with this id, and it has turns.")
        record = await sessions.registry.activate(key, principal, shard, create=True)
        if copy.turns:
            await shard.store.plant(key, principal, record.session_id, copy)


def _with_ids_of(copy: TranscriptCopy, key: str, shard: int) -> TranscriptCopy:
    """A copy with the ids that its turns have in a session."""
    if not copy.turns:
        return copy
    last = copy.turns[-1].turn_id
    turns = [replace(turn, turn_id=copied_turn_id(shard, key, last, turn.turn_id)) for turn in copy.turns]
    summary = copy.summary
    if summary is not None:
        summary = replace(summary, through=copied_turn_id(shard, key, last, summary.through))
    return replace(copy, turns=turns, summary=summary)
