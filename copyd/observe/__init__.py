"""What people and programs see of a run; subscribes to events, imported by the CLI only."""
