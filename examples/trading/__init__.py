"""A small trading system on Streamatiq: strategy, risk, simulated exchange, watch on feeds.

See README.md for how to run it, and in which order to read it.
"""
