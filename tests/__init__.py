"""Streamatiq's tests. A package, so that `tests.support` has a name; see there."""
