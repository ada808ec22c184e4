"""A real recording through real worker processes, proved from outside Redis as well as from inside.

    pipeline/     what the worker processes load: rule, handlers, and their ledgers
    recording     the data file: where it is, a cut of it, its rows
    run           one run: server, workers, ingest, until everything is settled
    evidence      what the run left behind, in the logs, the ledgers and the audit
    proofs        what must hold of that evidence
    figures       how fast it was

See docs/end-to-end.md.
"""
