"""Does the fix work? The script is run again with nothing changed but the fix."""
