"""The bench: Streamatiq, Dramatiq's RedisBroker and a bare redis-py floor in one run.

    run.py        command line: which systems, which measures, how many rounds
    rounds.py     the plan: every measure of every system in every round, interleaved
    measures/     drain, enqueue, latency and so on: one class each, one sample back
    apps/         one module a system: its broker, its handler, its way to send
    producer.py   child process that sends; worker processes are the system's own
    sending.py    the ways in which it sends
    ledger.py     shared memory in which handlers note what they ran, and when
    load.py       open-loop schedule: absolute due times, so a slow system hides nothing
    processes.py  child processes that never outlive the bench
    server.py     the one server that all systems are measured on
    results.py    samples and the JSON file
    metrics.py    every figure: its title, and which way is better
    budgets.py    what the figures must reach
    report.py     tables, ratios, and the generated part of docs/performance.md

What is measured runs only in child processes: the parent polls shared memory a few times a second
and is otherwise idle, so it takes no part in what it measures.
"""
