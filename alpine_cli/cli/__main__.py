"""`python -m alpine_cli.cli …` is `alpine …`, where no script is at hand (under torchrun)."""

from alpine_cli.cli import main

main()
