"""Where tasks run: an interface, and workers on this machine."""
