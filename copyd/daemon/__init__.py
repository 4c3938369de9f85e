"""The daemon: one loop owns all that changes; runs, clusters and callers send it messages."""
