"""Where events come from besides the API: past orders of public data sets and shops."""
