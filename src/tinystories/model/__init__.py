"""The GPT, its operations on every device, and its checkpoint."""
