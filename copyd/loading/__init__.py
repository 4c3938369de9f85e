"""What happens at one end of a transfer: tables looked up, columns matched, sessions set."""
