"""One id-range of the matrix: at rest, in memory, on a node."""
