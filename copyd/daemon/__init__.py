"""The daemon: clusters kept up, transfers run on time, a configuration that can be read again."""
