"""Resent history is recorded once: from a captured call to the messages that are new in it. Pure."""
