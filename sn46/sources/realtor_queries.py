"""The questions that Realtor.com's GraphQL endpoint understands, as ``homeharvest`` writes them.

``homeharvest`` (the extra ``realtor``) knows and maintains the queries, but sends them itself: with
its own retries, up to 20 at a time, without a time-out, and it reads a broken answer as an empty
one. So it is only asked what it would send; sending and reading are this package's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from urllib.parse import urlsplit

from sn46.sources.splitting import Part

_ADVICE: Final = "Realtor.com needs homeharvest 0.8.18: pip install 'sn46[realtor]'"


@dataclass(frozen=True)
class Question:
    """One GraphQL request: ``path`` of the endpoint, its body as JSON, and headers."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


class Questions:
    """What to send for each purpose.

    Raises:
        ValueError: where homeharvest is not there, or is not as known.
    """

    def __init__(self) -> None:
        try:
            # Imported here: an extra, whose import costs a second and 60 MB (pandas).
            from homeharvest.core.scrapers import DEFAULT_HEADERS
            from homeharvest.core.scrapers.realtor import RealtorScraper
        except ImportError as error:
            raise ValueError(_ADVICE) from error
        self._headers: Mapping[str, str] = dict(DEFAULT_HEADERS)
        self._path = urlsplit(RealtorScraper.SEARCH_GQL_URL).path
        try:
            self.place("98101")
            self.sold("98101", Part(date.min, date.max), 0)
            self.home("1")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{_ADVICE} (this one: {type(error).__name__})") from error

    def place(self, zipcode: str) -> Question:
        """Which places there are of a ZIP's name."""
        return self._asked(zipcode, lambda scraper: scraper.handle_location())

    def sold(self, place: str, part: Part, offset: int) -> Question:
        """200 sales of a place (as ``place`` answered it), newest first, from ``offset`` on."""
        variables = {"offset": offset, "search_location": {"location": place}}
        return self._asked(
            place,
            lambda scraper: scraper.general_search(variables=variables, search_type="area"),
            date_from=part.sold_from.isoformat(),
            date_to=part.sold_to.isoformat(),
        )

    def home(self, property_id: str) -> Question:
        """A home's own record."""
        return self._asked(property_id, lambda scraper: scraper.handle_home(property_id))

    def _asked(self, location: str, act: Any, **more: Any) -> Question:
        from homeharvest.core.scrapers import ScraperInput
        from homeharvest.core.scrapers.models import ListingType, ReturnType
        from homeharvest.core.scrapers.realtor import RealtorScraper

        sent: list[dict[str, Any]] = []

        class Listening(RealtorScraper):
            """Keeps what it would send, and takes nothing for the answer."""

            def _graphql_post(
                self, query: str, variables: dict[str, Any], operation_name: str
            ) -> dict[str, Any]:
                sent.append(
                    {
                        "operationName": operation_name,
                        "query": " ".join(query.split()),
                        "variables": variables,
                    }
                )
                return {}

        wanted = ScraperInput(
            location=location,
            listing_type=ListingType.SOLD,
            return_type=ReturnType.raw,
            **more,
        )
        act(Listening(wanted))
        if len(sent) != 1:
            raise ValueError(_ADVICE)
        return Question(self._path, sent[0], self._headers)
