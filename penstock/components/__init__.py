"""Node types of a workflow: one class each, found by entry point or in a project's folder."""
