"""Stand-ins for Google's services on the loopback interface; for tests and rehearsals, never for real data."""
