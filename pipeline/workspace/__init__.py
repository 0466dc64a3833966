"""Workspaces: settings, folders, set-up."""
