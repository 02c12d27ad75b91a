"""Online: views for one key or thousands, read from the live state."""
