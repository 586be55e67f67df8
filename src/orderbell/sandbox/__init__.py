"""A provider to rehearse with: takes messages over HTTP, writes each into its ledger, delivers none."""
