"""The command line, `adapt`."""
