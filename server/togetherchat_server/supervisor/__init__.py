"""Several processes that serve as one: `--workers N`.

    supervisor (no grpc, no HTTP client)      holds the port, serves the admin port, forwards signals
      |  one socket pair per process; its end-of-file means that the other side has exited
      +-- worker 1   listens on the port with SO_REUSEPORT, sends reports
      +-- worker 2
      +-- sandbox    with --sandbox only: one sandbox for all workers

Processes are started by exec, never forked: a fork with gRPC loaded hangs or crashes, so the process
that starts others must not load it. `Fleet` makes every decision and does no I/O: reports, exits,
signals and the time go in, actions come out. The rest of this package feeds it and performs the
actions.

A worker that dies fails its own calls only. When the supervisor dies, each worker reads the end of
its socket, lets its calls continue for a moment, and exits.
"""
