"""The rules of time as pure functions: windows, versions, progress, folding. No I/O."""
