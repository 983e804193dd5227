"""Measures against the ceiling of the bare library calls, and against what a team would write itself."""
