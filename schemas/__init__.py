"""What is written down: records, identifiers, errors. Imports nothing of ours."""
