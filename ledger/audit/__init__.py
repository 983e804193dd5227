"""Verify, step by step: the numbers are those of docs/FORMAT.md."""
