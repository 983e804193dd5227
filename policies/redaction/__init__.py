"""What must not leave, and what stands in its place."""
