"""Faults on request: failures of a network or an API, switched on per endpoint."""
