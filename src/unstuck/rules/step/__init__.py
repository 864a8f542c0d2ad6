"""Rules about the size of a step and what pulls against it."""
