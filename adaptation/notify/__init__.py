"""Sending events to people and other systems."""
