"""``sn46 caddyfile``: the reverse proxy's configuration for two or more API servers."""

from typing import Annotated

import typer

from sn46.commands.outcome import EXIT_USAGE, fail


def caddyfile(
    site: Annotated[
        str,
        typer.Argument(help="Domain name of the API, such as api.example.org; or http://:8080."),
    ],
    replicas: Annotated[list[str], typer.Argument(help="Each API server, as HOST:PORT.")],
    check_seconds: Annotated[
        int, typer.Option(min=1, help="How often each server is asked whether it is fit.")
    ] = 5,
) -> int:
    """Print a Caddyfile for API servers that share a database and their limits."""
    from sn46.localnet import caddyfile as text

    try:
        print(text.caddyfile(site, replicas, check_seconds=check_seconds), end="")
    except text.CaddyfileError as error:
        return fail("caddyfile", str(error), EXIT_USAGE)
    return 0
