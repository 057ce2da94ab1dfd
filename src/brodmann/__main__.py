"""`python -m brodmann`."""

from brodmann.cli import main

main()
