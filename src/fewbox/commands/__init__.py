"""The commands: how each is asked for on the command line, and what it prints."""
