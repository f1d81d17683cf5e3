"""Portals in this process: real HTTP on loopback, hand-made answers, and faults to switch on."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from source_doubles import DROP, HANG, http


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    """``answer`` is asked unless ``faults`` are left for the request: (how the path begins,
    answer) pairs, each given once; a fault without end is put into ``always``."""

    answer: Callable[[Asked], bytes]
    url: str = ""
    faults: list[tuple[str, bytes]] = field(default_factory=list)
    always: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def reply(self, asked: Asked) -> bytes:
        self.asked.append(asked)
        for fault in self.faults:
            if asked.path.startswith(fault[0]):
                self.faults.remove(fault)
                return fault[1]
        for path, answer in self.always.items():
            if asked.path.startswith(path):
                return answer
        return self.answer(asked)

    def count(self, path: str) -> int:
        return sum(asked.path.startswith(path) for asked in self.asked)


async def _read(reader: asyncio.StreamReader, peer: str) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
    method, path, _ = head[0].split(" ")
    pairs = (line.split(": ", 1) for line in head[1:] if ": " in line)
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body, peer)


@asynccontextmanager
async def serving(answer: Callable[[Asked], bytes]) -> AsyncIterator[Site]:
    site = Site(answer)
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer = writer.get_extra_info("peername")[0]
            reply = site.reply(await _read(reader, peer))
            if reply == HANG:
                await over.wait()
            elif reply != DROP:
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    site.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield site
    finally:
        over.set()
        server.close()


CAPTCHA = http(
    200,
    '<html><title>Access to this page has been denied</title><div id="px-captcha"></div></html>',
    content_type="text/html",
)
JSON_WALL = http(200, '{"appId": "PX", "blockScript": "/captcha.js", "vid": "1"}')
CUT_OFF = http(200, '{"cat1": {"searchResults": {"listRes')


def page(data: Any, status: int = 200) -> bytes:
    """An HTML page that carries data for its scripts, and names the wall's scripts as real ones
    do."""
    text = json.dumps(data).replace("</", "<\\/")
    return http(
        status,
        '<!DOCTYPE html><html><head><script src="https://x.test/px-captcha.js"></script></head>'
        f'<body><script id="__NEXT_DATA__" type="application/json">{text}</script></body></html>',
        content_type="text/html; charset=utf-8",
    )


def milliseconds(day: date, hour: int = 8) -> int:
    """A day as Zillow writes it: midnight in the Pacific zone."""
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=UTC).timestamp() * 1000)


def zillow_home(zpid: int, zipcode: str, price: int | None, sold: date, **more: Any) -> Any:
    """One home with all that Zillow's search and page say of it."""
    return {
        "zpid": zpid,
        "streetAddress": f"{zpid} Alder St UNIT {zpid % 7}",
        "city": "Seattle",
        "state": "WA",
        "zipcode": zipcode,
        "county": "King County",
        "homeType": "CONDO",
        "homeStatus": "RECENTLY_SOLD",
        "bedrooms": 2,
        "bathrooms": 2,
        "livingArea": 1408,
        "livingAreaValue": 1408,
        "livingAreaUnits": "Square Feet",
        "yearBuilt": 1986,
        "latitude": 47.61,
        "longitude": -122.33,
        "monthlyHoaFee": None,
        "price": price,
        "dateSold": milliseconds(sold),
        "hdpUrl": f"/homedetails/{zpid}-Alder-St/{zpid}_zpid/",
        "priceHistory": [
            {"date": f"{sold}", "event": "Sold", "price": price, "source": "Public Record"},
        ],
        "resoFacts": {
            "hoaFee": "$612 quarterly",
            "lotSize": "0.39 Acres",
            "parcelNumber": "0123",
            "garageParkingCapacity": 1,
            "stories": 2,
            "taxAssessedValue": 400400,
        },
    } | more


def zillow_result(home: dict[str, Any]) -> dict[str, Any]:
    """A home as a result of the search."""
    price = home["price"]
    info = {
        name: home[name]
        for name in ("streetAddress", "city", "state", "zipcode", "homeType", "dateSold")
    }
    numbers = {name: float(home[name]) for name in ("bedrooms", "bathrooms", "livingArea")}
    found: dict[str, Any] = {
        "zpid": str(home["zpid"]),
        "statusType": "SOLD",
        "statusText": "Sold",
        "detailUrl": home["hdpUrl"],
        "addressStreet": home["streetAddress"],
        "addressCity": home["city"],
        "addressState": home["state"],
        "addressZipcode": home["zipcode"],
        "beds": home["bedrooms"],
        "baths": float(home["bathrooms"]),
        "area": home["livingArea"],
        "latLong": {"latitude": home["latitude"], "longitude": home["longitude"]},
        "hdpData": {
            "homeInfo": info
            | numbers
            | {
                "zpid": home["zpid"],
                "latitude": home["latitude"],
                "longitude": home["longitude"],
                "lotAreaValue": 0.3533,
                "lotAreaUnit": "acres",
            }
        },
    }
    if price is not None:
        found |= {"price": f"${price:,}", "unformattedPrice": price}
        found["hdpData"]["homeInfo"]["price"] = float(price)
    return found


_WINDOWS = {"6m": 182, "12m": 365, "24m": 730, "36m": 1096}
REGIONS = {"98101": 99562, "98102": 99563, "98199": 99565}


def zillow(
    homes: Iterable[dict[str, Any]], today: date, *, size: int = 41, pages: int = 20
) -> Callable[[Asked], bytes]:
    """Zillow over these homes: ``size`` results on each of at most ``pages`` pages of a search."""
    by_zpid = {home["zpid"]: home for home in homes}

    def region(zipcode: str) -> bytes:
        number = REGIONS.get(zipcode)
        state = {
            "mapBounds": {"west": -122.4, "east": -122.3, "south": 47.6, "north": 47.7},
            "regionSelection": [{"regionId": number, "regionType": 7}] if number else [],
            "usersSearchTerm": zipcode,
        }
        return page({"props": {"pageProps": {"searchPageState": {"queryState": state}}}})

    def search(state: dict[str, Any]) -> bytes:
        filters, number = state["filterState"], state["regionSelection"][0]["regionId"]
        assert filters["isRecentlySold"] == {"value": True}
        assert filters["isForSaleByAgent"] == {"value": False}
        matches = [h for h in by_zpid.values() if REGIONS.get(h["zipcode"]) == number]
        if "doz" in filters:
            doz = filters["doz"]["value"]
            first = milliseconds(today - timedelta(days=_WINDOWS.get(doz) or int(doz)))
            matches = [h for h in matches if h["dateSold"] >= first]
        if "price" in filters:
            low, high = filters["price"]["min"], filters["price"].get("max", 1 << 40)
            matches = [h for h in matches if h["price"] is not None and low <= h["price"] <= high]
        matches.sort(key=lambda h: (-h["dateSold"], h["zpid"]))
        at = state["pagination"]["currentPage"]
        shown = matches[(at - 1) * size : at * size] if at <= pages else []
        counts = {
            "totalResultCount": len(matches),
            "resultsPerPage": size,
            "totalPages": min(pages, -(-len(matches) // size)),
        }
        results = {"listResults": [zillow_result(h) for h in shown]}
        return http(200, json.dumps({"cat1": {"searchResults": results, "searchList": counts}}))

    def answer(asked: Asked) -> bytes:
        parts = asked.path.strip("/").split("/")
        if asked.path == "/async-create-search-page-state" and asked.method == "PUT":
            return search(asked.json["searchQueryState"])
        if parts[:2] == ["homes", "recently_sold"]:
            return http(301, location=f"/seattle-wa-{parts[2].removesuffix('_rb')}/sold/")
        if parts[0].startswith("seattle-wa-"):
            return region(parts[0].removeprefix("seattle-wa-"))
        if parts[0] != "homedetails" or not parts[-1].endswith("_zpid"):
            return http(404, "<h1>Not Found</h1>", content_type="text/html")
        home = by_zpid.get(int(parts[-1].removesuffix("_zpid")))
        if home is None:
            return page({"props": {"pageProps": {"statusCode": 404}}, "page": "/_error"}, 404)
        if len(parts) == 2:
            return http(301, location=home["hdpUrl"])
        return property_page(home)

    return answer


def property_page(home: Any) -> bytes:
    """A home's own page; its cache is JSON in JSON, beside other queries."""
    cache = {
        'NotForSaleShopperPlatformFullRenderQuery{"zpid":1}': {"property": home},
        "Viewer": {"viewer": None},
    }
    return page({"props": {"pageProps": {"componentProps": {"gdpClientCache": json.dumps(cache)}}}})
