"""Rules about how a network starts and what it is able to be."""
