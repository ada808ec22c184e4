"""Streamatiq: typed events in durable logs on Redis Streams, handled by Dramatiq actors."""
