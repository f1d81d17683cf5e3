"""The ZIP master table: every US ZIP with its place and its figures.

The bundled table holds the census figures alone. What a complete scrape of a ZIP should find
(``expected_listings``) comes from files that the owner imports into a :class:`Library`, which
composes and publishes the table; every change gives a table of another ``version``, so that a draw
can name the table it was made from.
"""

from sn46.zipcodes.bundled import load_bundled_table
from sn46.zipcodes.estimating import with_estimates
from sn46.zipcodes.figures import Source
from sn46.zipcodes.files import load_table, save_table
from sn46.zipcodes.library import Library
from sn46.zipcodes.table import MasterTable, ZipTableError, with_expected

__all__ = [
    "Library",
    "MasterTable",
    "Source",
    "ZipTableError",
    "load_bundled_table",
    "load_table",
    "save_table",
    "with_estimates",
    "with_expected",
]
