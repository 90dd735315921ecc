"""What a turn's runtime starts from, made of its session, its message and the configuration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workers.kept_json import kept_json
from workers.runtimes.runtime import Context, Host, Outcome
from workers.runtimes.transcript import RESULTS_CAME, brings_results, came_late, results_in, waiting_calls
from workers.session_keys import is_bare
from workers.sessions.agent_config import AgentConfig
from workers.sessions.client_tools import SameName, no_such_call, offered
from workers.sessions.commands import prompt_asked_for
from workers.sessions.notes import resume_note
from workers.sessions.session import Session
from workers.tools.toolbox import ToolsUnavailable
from workers.turn_errors import local_error
from workers.turns import Submission


async def prepared(host: Host, session: Session, submission: Submission, config: AgentConfig) -> Context | Outcome:
    """What the runtime starts from; or the outcome of a turn that needs no runtime.

    A message that asks for a prompt of a tool server has that prompt's messages behind it, which the host keeps.
    """
    toolbox = session.toolbox
    try:
        tools = await toolbox.definitions()
    except ToolsUnavailable as error:
        return _failed("tools_unavailable", str(error), 502)
    of_client: frozenset[str] = frozenset()
    parameters: Mapping[str, Any] = submission.parameters
    if "tools" in parameters:
        try:
            both = offered(tools, parameters)
        except SameName as error:
            return replace(_failed("tool_name_taken", str(error), 400), own_fault=True)
        tools, of_client, parameters = both.tools, both.of_client, both.parameters
    instructions = None
    if "instructions" in parameters:  # of this request alone: they are no part of the transcript
        parameters = {**parameters}
        instructions = parameters.pop("instructions")
    messages = submission.messages
    if session.hidden_work is not None:
        messages = session.hidden_work.restored(messages)
    if brings_results(messages) and not submission.stateless:
        waiting = waiting_calls(session.past)
        if lacking := [call_id for call_id in results_in(messages) if call_id not in waiting]:
            # They waited behind a turn that had results of the same calls.
            return replace(_failed("no_such_call", no_such_call(lacking), 400), own_fault=True)
        if came_late(messages, session.past):
            messages = [*messages, RESULTS_CAME]
    text = prompt_asked_for(messages)
    prompted = None if text is None else await toolbox.prompt(text)
    if prompted is not None:
        if prompted.failed:
            return _failed("prompt_failed", prompted.answer, 502 if prompted.may_pass else 400)
        if not prompted.messages:
            await host.say(prompted.answer)
            host.keep((kept_json({"role": "assistant", "content": prompted.answer}),))
            return Outcome(text=prompted.answer)
        host.keep(prompted.messages)
        messages = [*messages, *prompted.messages]
    resume = session.marks.resume
    note = None if resume is None else resume_note(resume, now=time.time(), fresh_s=config.resume_fresh_s)
    prompt = None if is_bare(session.key) else config.system_prompt
    parts = (prompt, instructions, note, toolbox.instructions, toolbox.notice)
    return Context(
        messages=messages,
        memory=session,
        system="\n\n".join(part for part in parts if part),
        resumed=note is not None,
        tools=tools,
        client_tools=of_client,
        parameters=parameters,
        max_turns=config.max_turns,
        compaction=config.compaction,
    )


def _failed(code: str, text: str, http_status: int) -> Outcome:
    return Outcome(reason="error", error=local_error(code, text, http_status=http_status))
