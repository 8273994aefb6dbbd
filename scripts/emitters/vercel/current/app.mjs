// A chat with the Vercel AI SDK, version 7, which leaves telemetry to @ai-sdk/otel.
import { openai } from "@ai-sdk/openai";
import { OpenTelemetry } from "@ai-sdk/otel";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { generateText, registerTelemetry, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const telemetry = new NodeSDK();
telemetry.start();
registerTelemetry(new OpenTelemetry({ runtimeContext: true }));

const tools = {
  get_order: tool({
    description: "Look up an order by its number",
    inputSchema: z.object({ id: z.number() }),
    execute: async ({ id }) => ({ id, status: "shipped" }),
  }),
};
const options = {
  model: openai.chat("gpt-4o"),
  system: "You answer questions about orders.",
  runtimeContext: { sessionId: "chat-7", userId: "u-1" },
  telemetry: { functionId: "support", includeRuntimeContext: { sessionId: true, userId: true } },
};

const asked = 'Where is order 7? [[tool:get_order {"id": 7}]][[then]][[say It is on its way.]]';
const messages = [{ role: "user", content: asked }];
const first = await generateText({ ...options, messages, tools, stopWhen: stepCountIs(3) });
messages.push(...first.response.messages, { role: "user", content: "Thanks! [[say You are welcome.]]" });
for await (const text of streamText({ ...options, messages }).textStream) process.stdout.write(text);
try {
  await generateText({ ...options, prompt: "Fail [[error:400 x]]", maxRetries: 0 });
} catch (error) {
  console.log(error.message);
}
await telemetry.shutdown();
