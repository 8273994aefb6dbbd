"""`python -m converra` is the command `converra`."""

from converra.cli import main

main()
