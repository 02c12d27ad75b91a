"""How data come in: sources and `penstock add`."""
