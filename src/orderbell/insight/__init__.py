"""Looks at past and pretended orders: scenarios, backtests, the summaries of both."""
