"""delivery.outbox."""
