"""The log embedded in the process: LMDB holding Arrow batches, open in as many processes as like."""
