"""When: the scheduler process, replays, checkpoints, retention, schedules."""
