"""Run again what was recorded, and compare."""
