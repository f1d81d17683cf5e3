"""The scraper that one writes first: one request at a time over one proxy, tried again at once.

``python -m benchmarks.sequential PORTAL PROXY FROM TO ZIP…`` prints what it did as JSON. It splits
searches that are over the portal's limit, as it would miss homes otherwise, checks nothing and
keeps nothing on disk, and it ignores Retry-After, which no portal would let pass.
"""

import json
import sys
import time
from datetime import date
from typing import Any

import httpx

from sn46.sources.splitting import Part


class Sequential:
    def __init__(self, portal: str, proxy: str) -> None:
        self._http = httpx.Client(base_url=portal, proxy=proxy, trust_env=False, timeout=30)
        self.requests = self.refused = 0

    def page(self, zipcode: str, part: Part, number: int) -> Any:
        params: dict[str, Any] = {
            "zip": zipcode,
            "soldFrom": part.sold_from.isoformat(),
            "soldTo": part.sold_to.isoformat(),
            "minPrice": part.min_price,
            "page": number,
        }
        while True:
            self.requests += 1
            answer = self._http.get("/api/search", params=params)
            if answer.status_code == 200:
                return answer.json()
            self.refused += 1

    def homes(self, zipcode: str, part: Part) -> list[Any]:
        page = self.page(zipcode, part, 1)
        total, limit, size = page["totalResults"], page["resultLimit"], page["pageSize"]
        halves = part.halves() if total > limit else None
        if halves:
            return self.homes(zipcode, halves[0]) + self.homes(zipcode, halves[1])
        found = list(page["homes"])
        for number in range(2, -(-min(total, limit) // size) + 1):
            found += self.page(zipcode, part, number)["homes"]
        return found


def main(portal: str, proxy: str, sold_from: str, sold_to: str, *zipcodes: str) -> None:
    whole = Part(date.fromisoformat(sold_from), date.fromisoformat(sold_to))
    scraper = Sequential(portal, proxy)
    began, cpu = time.perf_counter(), time.process_time()
    rows = sum(len({h["propertyId"] for h in scraper.homes(z, whole)}) for z in zipcodes)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    figures = {
        "rows": rows,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "requests": scraper.requests,
        "refused": scraper.refused,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
