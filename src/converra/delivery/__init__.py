"""From recorded messages to the API: what waits, what to send next, and the worker that sends it."""
