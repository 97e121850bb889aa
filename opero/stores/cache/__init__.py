"""Where cached results live: in this process, on disk, in Redis."""
