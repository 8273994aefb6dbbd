"""One conversation against the API: the next request, and the effect of each answer. Pure."""
