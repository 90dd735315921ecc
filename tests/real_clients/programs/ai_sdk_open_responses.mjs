// The AI SDK with @ai-sdk/open-responses.
import { createOpenResponses } from "@ai-sdk/open-responses";
import { inSdk } from "./ai_sdk.mjs";
import { MODEL, answering } from "./asked.mjs";

await answering((asked) => {
  const url = `${asked.base_url}/responses`;
  const gateway = createOpenResponses({ name: "gateway", url, apiKey: asked.key, headers: asked.headers });
  return inSdk(gateway(MODEL), asked);
});
