"""The plan at three tempos."""
