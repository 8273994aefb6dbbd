"""The protocol of one conversation with the API: its next request, and the effect of each answer. Pure."""
