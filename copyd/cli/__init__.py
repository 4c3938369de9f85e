"""The command line: arguments in, everything built here."""
