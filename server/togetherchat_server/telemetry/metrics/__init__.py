"""Metrics: what is counted, and how it reaches Prometheus and the console.

    CallRecord --> CallMetrics ----+                                one process: /metrics, the console
    EventLoopLag ------------------+--> MetricStore --> MetricsCollector --> exposition
    callbacks, read at a scrape ---+                         |
                                                             | packets at every heartbeat: the counts
                                                             v since the last one, the current gauges
                                                   FleetMetrics (supervisor) --> exposition

A store is dictionaries of numbers that one event loop writes: no locks, no object per series.
A worker sends its counts to the supervisor and starts again at zero; the supervisor adds them up.
So a total never decreases when a worker ends, and a scrape waits for no worker. A worker that is
killed loses the counts since its last heartbeat.

Labels are bounded: see `cardinality.py`.
"""
