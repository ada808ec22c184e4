"""A small trading system on Streamatiq: strategy, risk, a simulated exchange, and a watch on the feeds.

See README.md for how to run it, and in which order to read it.
"""
