"""Compiled specs: compile, check, publish, submit."""
