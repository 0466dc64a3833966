"""Machinery below the domain: storage, journal, locks, processes."""
