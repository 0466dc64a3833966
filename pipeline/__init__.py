"""What a person runs: settings, the two pipeline definitions, the local runner and the command line."""
