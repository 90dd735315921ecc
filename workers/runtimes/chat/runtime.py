"""The built-in agent: asks the model, calls the tools it wants, asks again, until it answers."""

from __future__ import annotations

from functools import partial

from workers.runtimes.chat.compaction import Fitting
from workers.runtimes.chat.machine import CallModel, CallTools, Finish, ToolResults, TurnMachine
from workers.runtimes.chat.past import past_of
from workers.runtimes.runtime import Context, Host, Outcome


class ChatRuntime:
    """Drives :class:`workers.runtimes.chat.machine.TurnMachine` over the host of a turn."""

    async def run(self, host: Host, context: Context) -> Outcome:
        """As :meth:`workers.runtimes.runtime.Runtime.run` says."""
        past = partial(past_of, context.memory, resumed=context.resumed)
        fit = Fitting(context.memory, context.compaction, past).fit
        machine = TurnMachine(
            max_model_calls=context.max_turns,
            client_tools=context.client_tools,
            one_call=context.parameters.get("parallel_tool_calls") is False,
        )
        action = machine.start(context.messages)
        while True:
            host.keep(action.commit)
            match action:
                case CallModel():
                    answer = await host.ask(
                        action.messages,
                        past=past(),
                        system=context.system,
                        tools=context.tools,
                        parameters=context.parameters,
                        fit=fit,
                    )
                    action = machine.feed(answer)
                case CallTools():
                    results = await host.call(action.calls)
                    ids = (call.call_id for call in action.calls)
                    action = machine.feed(ToolResults(results=dict(zip(ids, results, strict=True))))
                case Finish():
                    if action.unsaid:
                        await host.say(action.outcome.text)
                    return action.outcome
