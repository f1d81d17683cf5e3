"""``sn46 dashboard``: the web page of the competition."""

from sn46.commands.outcome import saying


@saying("dashboard")
def dashboard() -> int:
    """Serve a web page that shows draws, miners, agreement and alerts, with the settings of the
    environment and .env. Needs no wallet; listens on this machine alone unless told otherwise."""
    from sn46.configuration import read_settings
    from sn46.dashboard.settings import DashboardSettings

    settings = read_settings(DashboardSettings)
    # The server's libraries take a second to load; what is wrong with settings is said before.
    from sn46.dashboard.service import run_dashboard
    from sn46.processes import leave

    leave(run_dashboard(settings))
