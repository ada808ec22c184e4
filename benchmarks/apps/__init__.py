"""One module a system, imported by its worker processes and by its producer alike.

Each has a function `connect()` that returns its `Producer`. What an app is to connect to stands in
the environment (see `base.Target`), because Dramatiq's command line takes no arguments for us.
"""
