"""What converra costs; `make bench` runs it all. Numbers are for reading, not for gating: see `docs/explanation/`."""
