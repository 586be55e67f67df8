"""The rig of Slack's group robots."""

from tests.channels.staff_rig import rig_of

rig = rig_of("slack")
