/** Prints a completion while the model generates it. Ctrl-C cancels the call and keeps the partial text. */
import { ChatError, createClient } from "togetherchat";

const client = createClient(process.argv[2] ?? "localhost:50051");
const controller = new AbortController();
process.once("SIGINT", () => {
  controller.abort();
});

const stream = client.stream(
  { model: "openai/gpt-oss-120b", messages: "Tell me a story." },
  { signal: controller.signal },
);
try {
  for await (const text of stream.text()) {
    process.stdout.write(text);
  }
  console.log(`\n${String(stream.response.usage?.completionTokens)} tokens`);
} catch (error) {
  if (!(error instanceof ChatError)) {
    throw error;
  }
  console.error(`\nstopped: ${error.toString()}`);
  process.exitCode = 1;
}
client.close();
