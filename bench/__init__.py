"""Programs that measure Penstock beside named peers on the same work, in the same run."""
