"""`python -m penstock.cli` is `penstock`."""

from penstock.cli.app import main

main()
