"""What a customer sees: their order's page, look-up by number, short links."""
