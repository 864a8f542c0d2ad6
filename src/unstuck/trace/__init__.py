"""The first waist: what was seen in a training, as plain data without any framework."""
