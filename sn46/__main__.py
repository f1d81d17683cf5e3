"""``python -m sn46`` is the command ``sn46``."""

import sys

from sn46.cli import main

sys.exit(main())
