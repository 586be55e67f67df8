"""The composition root: puts the rooms together and runs them, for the command line and for tests."""
