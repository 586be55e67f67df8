"""Signing in: the door, passwords, the second step, and one's own account."""
