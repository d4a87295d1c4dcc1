// The service as a process of its own, and its simulator's request log.
//
// TOGETHERCHAT_PYTHON names the Python that has the service.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
const WORDS = ["-m", "togetherchat_server", "--sandbox", "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off",
  "--max-retries", "0", "--sandbox-tokens-per-second", "100", "--log-format", "json"];

/** Starts the service; `stop` ends it. */
export async function serve(http = "127.0.0.1:0") {
  const env = { PATH: process.env.PATH, PYTHONPATH: `${join(ROOT, "protos")}:${join(ROOT, "server")}` };
  const child = spawn(process.env.TOGETHERCHAT_PYTHON, [...WORDS, "--http-listen", http],
    { env, stdio: ["ignore", "ignore", "pipe"] });
  for await (const line of createInterface({ input: child.stderr })) {
    const found = /HTTP on (\S+), .*simulated completions from (\S+)\/v1/.exec(line);
    if (found) {
      child.stderr.resume();
      return { baseURL: found[1], simulator: found[2], stop: () => ended(child) };
    }
  }
  throw new Error(`the service ended with ${child.exitCode}`);
}

/** The simulator's memory of the requests for a model. */
export async function asked(served, model) {
  const answer = await fetch(`${served.simulator}/sandbox/request-log?model=${model}`);
  return (await answer.json()).requests;
}

/** Waits until the one request for a model has ended, and says how. */
export async function left(served, model) {
  for (let look = 0; look < 1000; look++) {
    const [request] = await asked(served, model);
    if (request && request.ended !== "running") return request.ended;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${model} did not end`);
}

function ended(child) {
  return new Promise((resolve) => {
    child.once("exit", resolve);
    child.kill("SIGTERM");
  });
}
