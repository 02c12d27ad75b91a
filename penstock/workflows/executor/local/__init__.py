"""Tasks on this machine: a worker process, warm templates, and processes that templates fork for tasks."""
