"""``python -m sn46.localnet.portal``: see ``--help``.

Prints ``portal ready on http://HOST:PORT`` once it answers. Exits with 2 and one line where an
option is wrong, with 1 and one line where it cannot start.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import NoReturn

from sn46.localnet.portal.app import Portal, PortalOptions
from sn46.localnet.portal.catalog import Catalog
from sn46.localnet.portal.clients import Allowance
from sn46.localnet.portal.faults import (
    FaultPlan,
    FaultRates,
    PortalConfigError,
    read_client_rules,
)
from sn46.localnet.portal.homes import PortalDataError, read_homes
from sn46.localnet.portal.server import reserve_port, serve
from sn46.processes import leave

_NAME = "sn46 portal"


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{_NAME}: {message} (see --help)\n")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535 is needed")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    rates, allowance, options = FaultRates(), Allowance(), PortalOptions()
    parser = _OneLineParser(
        prog=_NAME,
        description="A real-estate portal on this machine, with real sales of King County, WA.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="IPv4 address to listen on")
    add("--port", type=_port, default=0, help="port to listen on; 0 takes a free one")
    add("--data", type=Path, default=None, help="Parquet of sales instead of the bundled one")
    add("--page-size", type=int, default=options.page_size, help="homes a page")
    add("--result-limit", type=int, default=options.result_limit, help="results a search shows")
    add("--rate", type=float, default=allowance.rate, help="requests a second per client address")
    add("--burst", type=int, default=allowance.burst, help="requests at once per client address")
    add("--seed", default="portal", help="seed of the faults")
    add("--p429", type=float, default=rates.too_many, help="probability of a 429")
    add("--p403", type=float, default=rates.forbidden, help="probability of a 403")
    add("--captcha", type=float, default=rates.captcha, help="probability of a captcha page")
    add("--slow", type=float, default=rates.slow, help="probability of an answer in 0.3 to 1 s")
    add("--client-rules", type=Path, default=None, metavar="JSON",
        help='file of {"ADDRESS": {"fail_zipcodes": [...], "fail_fraction": 0.4}}')  # fmt: skip
    return parser


def _options(args: argparse.Namespace) -> PortalOptions:
    return PortalOptions(
        page_size=args.page_size,
        result_limit=args.result_limit,
        allowance=Allowance(args.rate, args.burst),
        plan=FaultPlan(
            seed=args.seed,
            rates=FaultRates(args.p429, args.p403, args.captcha, args.slow),
            rules=read_client_rules(args.client_rules) if args.client_rules else {},
        ),
    )


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        options = _options(args)
    except PortalConfigError as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 2
    try:
        held = reserve_port(args.host, args.port)
        portal = Portal(Catalog(read_homes(args.data)), options)
    except (PortalConfigError, PortalDataError) as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return 1
    asyncio.run(serve(portal.app(), held, lambda url: print(f"portal ready on {url}", flush=True)))
    return 0


if __name__ == "__main__":
    leave(main())
