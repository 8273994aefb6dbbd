"""A fleet: the processes of many machines share one outbox, from which relays deliver to the API.

`engine.py` is the protocol of a storage engine, `redis_engine.py` the one for Redis Streams. All else here knows no
engine: another one is a file of its own, and a scheme in `url.py`.

=============  =========================================================================================
part           does
=============  =========================================================================================
`shipper`      hands the messages of a process over to the engine, in batches, on a worker
`spill`        keeps them in a file while the engine is away
`relay`        holds lanes, and has a flusher send what they contain
`lanes`        takes, renews and balances the leases of lanes
`stream`       the outbox of that flusher: reads entries, saves states, acknowledges
`ledger`       one conversation as the engine keeps it
=============  =========================================================================================
"""
