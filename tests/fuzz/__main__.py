"""A longer run: ``python -m tests.fuzz --seconds 600 --seed 7``; one case again: ``--seed 7 --case 123``."""

import sys

from tests.fuzz.run import main

sys.exit(main())
