"""The rig of Feishu's group robots."""

from tests.channels.staff_rig import rig_of

rig = rig_of("feishu")
