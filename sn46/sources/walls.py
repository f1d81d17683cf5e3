"""Walls against bots, which portals put in place of a page, often with status 200."""

import re
from typing import Final

from sn46.sources.fetch import Answer

_MARKS: Final = re.compile(
    rb"px-captcha|captchaPerimeterX|captcha-delivery|g-recaptcha|kpsdk"
    rb"|Access to this page has been denied|Pardon Our Interruption",
    re.IGNORECASE,
)
"""PerimeterX, DataDome, reCAPTCHA, Kasada and Imperva, by what their pages carry."""

_IN_JSON: Final = b'"blockScript"'
"""What PerimeterX answers a script with, in place of the JSON that it asked for."""


def is_wall(answer: Answer, genuine: re.Pattern[bytes] | None = None) -> bool:
    """Whether an answer is a wall. Real pages may name a wall's scripts as well; ``genuine`` finds
    what they carry and walls do not."""
    if 300 <= answer.status < 400:
        return "captcha" in answer.location.lower()
    if answer.is_json:
        return _IN_JSON in answer.body
    if genuine is not None and genuine.search(answer.body):
        return False
    return bool(_MARKS.search(answer.body))
