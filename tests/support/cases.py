"""What property tests draw from: encodings with numbers of shards, and weights that do not add up exactly."""

AWKWARD = [1.0, 2.0, 0.1, 1 / 3, 0.7, 1e-3, 1e6, 1e-30, 3.0000000001]
CASES = [(encoding, shards) for encoding in ("dense", "sparse") for shards in range(1, 8)]
