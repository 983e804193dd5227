"""The only door for model requests."""
