/** Sends one question and prints the completion: compile, then `node complete.js [TARGET]`. */
import { createClient, textOf } from "togetherchat";

const client = createClient(process.argv[2] ?? "localhost:50051");
const response = await client.complete({
  model: "openai/gpt-oss-120b",
  messages: "Name three rivers.",
  maxTokens: 500,
});
console.log(textOf(response));
console.log(`${String(response.usage?.totalTokens)} tokens, by ${response.model}`);
client.close();
