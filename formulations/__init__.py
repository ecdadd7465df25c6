"""The mathematical formulations; each module derives its model before it builds it."""
