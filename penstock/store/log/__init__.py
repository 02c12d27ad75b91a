"""The log: topics of Arrow batches with positions, on LMDB."""
