"""Platforms: one machine and Google Cloud behind the narrow protocols of `base`."""
