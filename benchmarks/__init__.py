"""Benchmarks of converra; `make bench` runs them all. Numbers are for reading, not for gating."""
