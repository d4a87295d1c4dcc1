"""Several processes that serve as one: `--workers N`.

    supervisor (no grpc, no HTTP client)      holds the port, answers probes, forwards signals
      |  one socket each, both ends told by its end
      +-- worker 1   listens on the port with SO_REUSEPORT, says how it is
      +-- worker 2
      +-- sandbox    with --sandbox alone: one simulator for all workers

Processes are started by exec, never forked: a fork with gRPC loaded hangs or crashes, so the
process that starts others must not load it. `Fleet` decides everything and touches nothing:
reports, exits, signals and the time go in, actions come out. The rest of this package feeds
it and does as it says.

A worker that dies takes its own calls with it and nothing else. A supervisor that dies is
noticed by the end of the socket: every worker lets its calls go on for a moment and leaves.
"""
