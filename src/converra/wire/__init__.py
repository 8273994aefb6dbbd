"""A message as the API stores it: models, parsing, limits, JSON safety. Pure."""
