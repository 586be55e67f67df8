"""Serving: a port belongs to one process, unless all who listen on it say that they share it."""

import pytest

from orderbell.serving import bind


def test_port_is_taken_by_one() -> None:
    """Two who do not share cannot listen on one port."""
    first = bind("127.0.0.1", 0)
    with first, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", first.getsockname()[1])


def test_port_is_shared_by_those_who_say_so() -> None:
    """Two who share listen on one port; one who does not is still refused."""
    first = bind("127.0.0.1", 0, shared=True)
    port = first.getsockname()[1]
    with first, bind("127.0.0.1", port, shared=True), pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", port)
