"""`adapt doctor`: what is missing or wrong, and what to do."""
