"""The pure heart: what an event changes, who is told, in which words. No I/O, no clock, no dice."""
