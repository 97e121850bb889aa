"""`python -m opero` is `opero`."""

import sys

from opero.cli import main

sys.exit(main())
