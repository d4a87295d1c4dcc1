/**
 * Health checks before calls: a service that reports NOT_SERVING gets none.
 *
 * gRPC's own clients watch the health of each connection. This client has one connection and none to
 * choose instead, so it asks (`grpc.health.v1.Health/Check`) at most once in a while, as part of the
 * call that needs the result. The check carries the keys of that call and has a short timeout. A
 * server or proxy that does not answer it counts as healthy.
 */
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";

import { Health, HealthCheckResponse_ServingStatus as Status } from "./gen/grpc_health/v1/health_pb.js";
import { notServing } from "./status.js";

const FRESH_MS = 1000;
const CHECK_TIMEOUT_MS = 1000;
const KEYS = ["authorization", "x-together-api-key"];

/** Creates an interceptor for one connection; `transport` makes the checks over it, without interceptors. */
export function healthChecking(
  transport: Transport,
  nowMs: () => number = () => performance.now(),
): Interceptor {
  const health = createClient(Health, transport);
  let checkedAtMs = -Infinity;
  let last = Promise.resolve(true);

  async function serving(service: string, header: Headers): Promise<boolean> {
    const headers = KEYS.flatMap((name): [string, string][] => {
      const value = header.get(name);
      return value === null ? [] : [[name, value]];
    });
    try {
      const { status } = await health.check({ service }, { headers, timeoutMs: CHECK_TIMEOUT_MS });
      return status !== Status.NOT_SERVING;
    } catch (thrown) {
      // The call itself reports a connection that cannot be opened.
      return ConnectError.from(thrown).code !== Code.NotFound;
    }
  }

  return (next) => async (request) => {
    if (nowMs() - checkedAtMs > FRESH_MS) {
      checkedAtMs = nowMs();
      last = serving(request.service.typeName, request.header);
    }
    if (!(await last)) {
      throw notServing();
    }
    return next(request);
  };
}
