"""The U.S. Census Bureau's four regions by state (two-letter USPS code).

Source: Census Bureau, "Census Regions and Divisions of the United States". Territories and
military mail are in none; each counts as a region of its own.
"""

from types import MappingProxyType
from typing import Final

_REGIONS: Final = {
    "Northeast": "CT ME MA NH RI VT NJ NY PA",
    "Midwest": "IL IN MI OH WI IA KS MN MO NE ND SD",
    "South": "DE FL GA MD NC SC VA DC WV AL KY MS TN AR LA OK TX",
    "West": "AZ CO ID MT NV NM UT WY AK CA HI OR WA",
}

CENSUS_REGIONS: Final = MappingProxyType(
    {state: region for region, states in _REGIONS.items() for state in states.split()}
)


def region_of(state: str) -> str:
    """The Census region of a state, or the code itself for what lies in none."""
    return CENSUS_REGIONS.get(state, state)
