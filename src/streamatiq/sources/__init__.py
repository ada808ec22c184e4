"""Where events come from: files and simulators."""
