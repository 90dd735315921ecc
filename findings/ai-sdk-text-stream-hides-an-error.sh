#!/usr/bin/env bash
# The AI SDK's textStream ends at an error as if the answer were whole.
#
# Software:  ai 7.0.173 with @ai-sdk/openai-compatible 3.0.92, Node 24.21.0; streamText, nothing configured
# Expected:  whoever reads textStream learns that the server broke the answer off, by an exception
# Seen:      textStream yields the text so far and ends; no exception. fullStream has an error part, finishReason is
#            "error", and onError is called, whose default writes to the console
# Matters:   half an answer looks whole to a page that reads textStream alone; our page on the AI SDK gives onError
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" node@24.21.0 ai@7.0.173 @ai-sdk/openai-compatible@3.0.92
cat > "$folder/finding.mjs" <<'JS'
import { createServer } from "node:http";
import { streamText } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const chunk = (delta) =>
  `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 0, model: "m", choices: [{ index: 0, delta, finish_reason: null }] })}\n\n`;
const server = createServer((request, response) => {
  request.resume();
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(chunk({ role: "assistant", content: "half an " }));
  response.end(`data: ${JSON.stringify({ error: { message: "the model fell over", type: "server_error", code: null } })}\n\n`);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const provider = createOpenAICompatible({ name: "any", baseURL: `http://127.0.0.1:${server.address().port}/v1`, apiKey: "none" });
const ask = (onError) => streamText({ model: provider("m"), prompt: "hello", onError });

let text = "", raised = false, told = false;
try {
  for await (const piece of ask(() => (told = true)).textStream) text += piece;
} catch {
  raised = true;
}
const parts = [];
for await (const part of ask(() => {}).fullStream) parts.push(part.type);
console.log(`textStream: ${JSON.stringify(text)}, raised: ${raised}, onError called: ${told}; fullStream: ${parts.join(" ")}`);
server.close();
process.exit(text === "half an " && !raised && told && parts.includes("error") ? 0 : 1);
JS
"$folder/node_modules/.bin/node" "$folder/finding.mjs"
