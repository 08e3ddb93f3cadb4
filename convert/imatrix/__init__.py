"""llama.cpp's importance matrices: read in both formats, collected, merged, written."""

from convert.imatrix.collecting import Collection, Evaluate, Order, Origin, begun, collect
from convert.imatrix.entries import Entry, ImportanceMatrix, Sums, merge, unreached, weights_for
from convert.imatrix.reading import read_imatrix, read_sums
from convert.imatrix.writing import write_sums

__all__ = [
    "Collection",
    "Entry",
    "Evaluate",
    "ImportanceMatrix",
    "Order",
    "Origin",
    "begun",
    "Sums",
    "collect",
    "merge",
    "read_imatrix",
    "read_sums",
    "unreached",
    "weights_for",
    "write_sums",
]
