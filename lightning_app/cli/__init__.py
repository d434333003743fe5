"""The command line: the commands, their settings, and one-line errors."""
