"""The command without its script: ``python -m igniter_opt``."""

from igniter_opt.cli.main import app

if __name__ == "__main__":
    app(prog_name="igniter-opt")
