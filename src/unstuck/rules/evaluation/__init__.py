"""Rules; see the package above."""
