"""A real-estate portal on this machine, with 21,436 homes that were really sold.

It behaves as portals do: 40 homes a page, at most 1,000 results of a search, a limit of requests
per client address, now and then a refusal, a captcha or a slow answer, and an answer "no such
property" only where it knows that there is none. Its JSON has its own names and units.

``GET /api/search?zip=98103&soldFrom=2014-05-01&soldTo=2015-05-31&page=1``
    Also ``minPrice`` and ``maxPrice``. All filters but ``zip`` may be left out; bounds are
    inclusive. Newest sale first::

        {"totalResults": 600, "resultLimit": 1000, "pageSize": 40, "page": 1, "homes": [{...}]}

    ``totalResults`` counts all matches, also those past ``resultLimit`` that no page shows.
    A page past the limit is 400 ``page_beyond_limit``, one past the matches is empty.

``GET /api/property?id=7129300520``
    ``{"property": {...}}`` with all that is known of a home, its sales included; for an id that
    is none of its own, 404 with ``{"error": {"code": "no_such_property", ...}}``.

``GET /health`` and ``GET /stats``
    Whether it serves, and what each client address asked and got. Neither is limited or counted.

Every home is one record, whatever its number of sales: price and date are those of the latest.
The data have no street addresses; ``PARCEL {id}`` stands for them.
"""

from sn46.localnet.portal.homes import (
    Home,
    PortalDataError,
    Sale,
    bundled_sales_path,
    expected_counts,
    read_homes,
)

__all__ = [
    "Home",
    "PortalDataError",
    "Sale",
    "bundled_sales_path",
    "expected_counts",
    "read_homes",
]
