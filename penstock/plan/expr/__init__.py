"""SQL scalar expressions: parsed by SQLGlot, typed here, run by Arrow compute."""
