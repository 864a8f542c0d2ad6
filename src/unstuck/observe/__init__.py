"""Live trainings -> trace. One framework per file; only here are frameworks imported."""
