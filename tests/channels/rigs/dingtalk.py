"""The rig of DingTalk's group robots."""

from tests.channels.staff_rig import rig_of

rig = rig_of("dingtalk")
