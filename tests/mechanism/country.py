"""Every US ZIP, with listings estimated from housing units: the size that draws have in life."""

from functools import cache

from sn46.mechanism.draw import DrawTable
from sn46.mechanism.names import ZipCode
from sn46.zipcodes import MasterTable, load_bundled_table, with_estimates, with_expected

from .builders import EPOCH


@cache
def country() -> MasterTable:
    """Figures as of EPOCH, in proportion to the 1,007 homes that 11211 has."""
    day = EPOCH.start.date()
    return with_estimates(with_expected(load_bundled_table(), {ZipCode("11211"): 1_007}, day), day)


@cache
def country_columns() -> DrawTable:
    return DrawTable(country().rows)
