"""What a user writes: frozen, plain data; nothing runs on import."""
