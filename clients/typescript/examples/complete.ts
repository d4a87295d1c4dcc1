/** A question and its answer: `node complete.js [TARGET]` once it is compiled. */
import { createClient, textOf } from "togetherchat";

const client = createClient(process.argv[2] ?? "localhost:50051");
const answer = await client.complete({
  model: "openai/gpt-oss-120b",
  messages: "Name three rivers.",
  maxTokens: 500,
});
console.log(textOf(answer));
console.log(`${String(answer.usage?.totalTokens)} tokens, by ${answer.model}`);
client.close();
