"""The command without its script: ``python -m igniter_opt``."""

from igniter_opt.cli.main import run

if __name__ == "__main__":
    run()
