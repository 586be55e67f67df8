"""Ways out to people: one file per provider, all behind the protocol of `orderbell.channels.protocol`."""
