"""Live: the plan on a stream, exactly once from log to log."""
