"""Conversations as plain data and pure functions: no clock, no thread, no environment, no I/O."""
