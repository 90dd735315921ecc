// The AI SDK, with the model of any provider.
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { LOOK, look } from "./asked.mjs";

export async function inSdk(model, asked) {
  const tools = { look: tool({ description: LOOK.description, inputSchema: z.object({ window: z.string() }), execute: look }) };
  const bound = asked.timeout_s === null ? {} : { abortSignal: AbortSignal.timeout(asked.timeout_s * 1000) };
  const call = { model, prompt: asked.text, stopWhen: stepCountIs(5), ...(asked.tool ? { tools } : {}), ...bound };
  if (!asked.stream) return (await generateText(call)).text;
  let text = "";
  for await (const part of streamText({ ...call, onError: () => {} }).fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") text += part.text;
  }
  return text;
}
