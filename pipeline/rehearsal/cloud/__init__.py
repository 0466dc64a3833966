"""The cloud that a rehearsal runs against: emulated on this machine, seeded with copies of the data."""
