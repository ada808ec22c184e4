"""A small trading pipeline, as a user would write one. Worker processes load `handlers`."""
