/** Starts the service and the sandbox on free ports. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL("../../", import.meta.url));
const TOP = fileURLToPath(new URL("../../../../", import.meta.url));
const PYTHON = process.env["TOGETHERCHAT_PYTHON"] ?? `${TOP}.venv/bin/python`;

/** The folders of this package and of the repository; both end with a slash. */
export const FOLDER = HERE;
export const REPOSITORY = TOP;

export interface Running {
  readonly address: string;
  readonly process: ChildProcess;
  stop(): Promise<void>;
}

/** Starts the service. Without `upstream` its provider is its own sandbox, without delays. */
export function startServer(options: { upstream?: string; flags?: string[] } = {}): Promise<Running> {
  const sandbox = options.upstream === undefined ? ["--sandbox", "--sandbox-tokens-per-second=0"] : [];
  // The catalog makes the list of models longer than a page.
  const fixed = ["--grpc-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--model-catalog=on"];
  return start("togetherchat_server", [...sandbox, ...fixed, ...(options.flags ?? [])], /gRPC on (\S+?),/, {
    ...(options.upstream !== undefined && { TOGETHER_BASE_URL: `http://${options.upstream}/v1` }),
  });
}

/** Starts the sandbox alone, so that its request log can be read. */
export function startSandbox(): Promise<Running> {
  return start("togetherchat_sandbox", ["--listen=127.0.0.1:0"], /http:\/\/(\S+)\/v1/, {});
}

export interface LoggedRequest {
  readonly ended: "complete" | "client_closed" | "aborted_by_sandbox" | "running";
  readonly tokens_sent: number;
}

/** Returns the requests that the sandbox received with this request id. */
export async function requestLog(sandbox: Running, id: string): Promise<LoggedRequest[]> {
  const response = await fetch(`http://${sandbox.address}/sandbox/request-log?id=${id}`);
  return ((await response.json()) as { requests: LoggedRequest[] }).requests;
}

/** Waits until `reached` returns a value. */
export async function eventually<T>(reached: () => Promise<T | undefined>, withinMs = 60_000): Promise<T> {
  for (const end = performance.now() + withinMs; performance.now() < end;) {
    const value = await reached();
    if (value !== undefined) {
      return value;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`the condition was not reached within ${String(withinMs)} ms`);
}

async function start(
  module: string,
  flags: string[],
  greeting: RegExp,
  environment: Record<string, string>,
): Promise<Running> {
  if (!existsSync(PYTHON)) {
    throw new Error(`${PYTHON} does not exist: run make test once, or set TOGETHERCHAT_PYTHON`);
  }
  const child = spawn(PYTHON, ["-m", module, ...flags], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { PATH: process.env["PATH"], PYTHONPATH: `${TOP}protos:${TOP}server`, ...environment },
  });
  const exited = once(child, "exit");
  const lines = createInterface({ input: child.stderr });
  const address = await new Promise<string>((resolve, reject) => {
    const printed: string[] = [];
    // The listener is not removed: a pipe that is not read would block the program.
    lines.on("line", (line) => {
      printed.push(line);
      const found = greeting.exec(line)?.[1];
      if (found !== undefined) {
        resolve(found);
      }
    });
    void exited.then(() => {
      reject(new Error(`${module} did not start:\n${printed.join("\n")}`));
    });
  });
  return {
    address,
    process: child,
    async stop() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
