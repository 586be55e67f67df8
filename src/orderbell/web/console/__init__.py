"""The console: what the staff of a shop look at and steer by, page by page."""
