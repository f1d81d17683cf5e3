"""``python -m sn46.api`` runs the API server with the settings of the environment."""

import sys

from sn46.api.server import main

sys.exit(main())
