"""What is counted, and how it comes to whoever scrapes it.

    CallRecord --> CallFigures --+                                      one process: /metrics
    LoopLag ---------------------+--> Tally --> Meters -----------------> exposition
    gauges, read when asked -----+                |
                                                  | packets, every heartbeat: what came since
                                                  v the last one, and the gauges as they are
                                              FleetFigures (supervisor) --> exposition

A tally is dictionaries of numbers, which one loop writes: no locks, no objects for each series.
Workers hand over what they have counted and begin at nought. The supervisor adds, so nothing it
shows ever goes backwards, whichever worker has gone, and a scrape waits for no worker. What a
worker that is killed had counted since its last heartbeat is lost with it.

Labels are bounded: see `labels.py`.
"""
