"""What is allowed: pure rules without clock, environment or I/O."""
