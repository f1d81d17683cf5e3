"""``python -m sn46.api`` runs the API server with the settings of the environment.

Exit codes: 0 after a signal, 1 where it could not start, 2 where a setting is wrong.
"""

import sys

from sn46.api.settings import load_settings
from sn46.configuration import SettingsError
from sn46.processes import leave

EXIT_SETTINGS = 2


def main() -> int:
    """Run the API; returns only where a setting is wrong."""
    try:
        settings = load_settings()
    except SettingsError as error:
        for line in error.lines:
            print(f"sn46 api: {line}", file=sys.stderr)
        return EXIT_SETTINGS
    # The server's libraries take two seconds to load; what is wrong with settings is said before.
    from sn46.api.server import run_api

    return leave(run_api(settings))


if __name__ == "__main__":
    sys.exit(main())
