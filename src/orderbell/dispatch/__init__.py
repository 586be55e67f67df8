"""Dispatch: claim what is due, plan it, hand it over, and find out what became of it.

A message is written as `sending` and committed before the first byte leaves; what was left in doubt is asked
about and never sent again blindly (DESIGN.md §7, RELIABILITY.md §1).
"""

from orderbell.dispatch.dispatcher import Dispatcher

__all__ = ["Dispatcher"]
