"""The ZIP master table: every US ZIP with its place and its figures.

The bundled table holds the census figures alone. What a complete scrape of a ZIP should find
(``expected_listings``) is measured or imported, and added by :func:`with_expected`; every change
gives a table of another ``version``, so that a draw can name the table it was made from.
"""

from sn46.zipcodes.bundled import load_bundled_table
from sn46.zipcodes.files import load_table, save_table
from sn46.zipcodes.table import MasterTable, ZipTableError, with_expected

__all__ = [
    "MasterTable",
    "ZipTableError",
    "load_bundled_table",
    "load_table",
    "save_table",
    "with_expected",
]
