"""The rig of WeCom's group robots."""

from tests.channels.staff_rig import rig_of

rig = rig_of("wecom")
