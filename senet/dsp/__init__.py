"""Signal operations without weights."""
