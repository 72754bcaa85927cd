"""`python -m firerunner`."""

from firerunner.cli.main import main

main()
