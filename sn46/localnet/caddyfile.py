"""The reverse proxy's configuration: Caddy before two or more replicas of the API.

What it decides, and why:

- A replica gets requests while its ``/readyz`` says that it is fit: one that has just been started
  has not seen the chain yet. What all replicas need may be away, and none is fit; the API's own
  answers are better than the proxy's then (cached assignments, problem documents with a
  Retry-After), so requests go to any that accepts them.
- A request that reached no replica is sent to another one. One that may have reached a replica is
  sent to another only where that is harmless: a GET, and none that is signed as btauth/1, of which
  each nonce counts once: its repeat would be refused as a replay. Its sender gets 502, signs anew
  and asks again.
- No request of the API's has a body over 64 KiB. Up to 100 kB it refuses one in its own words,
  beyond that it does not get to see it.
- Callers are limited by address, so ``X-Forwarded-For`` is what Caddy saw and not what the caller
  says. That is Caddy's habit; the replicas believe it from the proxy alone (TRUSTED_PROXIES).
"""

import re
from collections.abc import Sequence

from bittensor import http_auth

_REPLICA = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}")
_SITE = re.compile(r"(https?://)?[A-Za-z0-9.-]*(:\d{1,5})?")
_CLOSED = "/metrics /api/v1/metrics"


class CaddyfileError(ValueError):
    """An address that cannot be written into a Caddyfile."""


def caddyfile(
    site: str, replicas: Sequence[str], *, check_seconds: int = 5, bind: str | None = None,
    is_local: bool = False,
) -> str:  # fmt: skip
    """A Caddyfile.

    Args:
        site: what is served: a domain name, for which Caddy gets a certificate, or an address such
            as ``http://:8080`` without one.
        replicas: HOST:PORT of each API server.
        check_seconds: how often each is asked whether it is fit. Each such question lists both
            buckets once.
        bind: the address to listen on; all of the machine's by default.
        is_local: neither an admin interface nor certificates, and nothing kept.

    Raises:
        CaddyfileError: where an address is none.
    """
    if not site or not _SITE.fullmatch(site):
        raise CaddyfileError(
            f"{site!r} is no site; write a domain name such as api.example.org, or http://:8080."
        )
    for replica in replicas:
        if not _REPLICA.fullmatch(replica):
            raise CaddyfileError(f"{replica!r} is no replica; write HOST:PORT.")
    if not replicas:
        raise CaddyfileError("Name at least one replica as HOST:PORT.")
    local = "\tadmin off\n\tpersist_config off\n\tauto_https off\n" if is_local else ""
    return _TEMPLATE.format(
        local=local,
        site=site,
        bind=f"\tbind {bind}\n" if bind else "",
        replicas=" ".join(replicas),
        # A dead one may come up by turn more than once.
        tries=2 * len(replicas),
        check_seconds=check_seconds,
        btauth=http_auth.HEADER_VERSION,
        closed=_CLOSED,
    )


_TEMPLATE = """\
{{
{local}\tgrace_period 5s
\tservers {{
\t\ttimeouts {{
\t\t\tread_header 10s
\t\t\tread_body 20s
\t\t\tidle 2m
\t\t}}
\t}}
}}

(replicas) {{
\tto {replicas}
\tlb_policy round_robin
\tlb_retries {tries}
\tlb_retry_match {{
\t\tmethod GET HEAD
\t\tnot header {btauth} *
\t}}
\ttransport http {{
\t\tdial_timeout 2s
\t\tresponse_header_timeout 30s
\t}}
}}

{site} {{
{bind}\t# Figures are scraped from each replica itself.
\t@closed path {closed}
\trespond @closed 404

\t@large header_regexp Content-Length ^\\d{{6,}}$
\trespond @large 413
\trequest_body {{
\t\tmax_size 100KB
\t}}

\treverse_proxy {{
\t\timport replicas
\t\tfail_duration 2s
\t\thealth_uri /readyz
\t\thealth_interval {check_seconds}s
\t\thealth_timeout 6s
\t\thealth_fails 2
\t}}

\t# None is fit: whatever accepts the request answers it.
\thandle_errors 503 {{
\t\treverse_proxy {{
\t\t\timport replicas
\t\t}}
\t}}
}}
"""
