"""See what Opero did: `/metrics`, spans and logs."""
