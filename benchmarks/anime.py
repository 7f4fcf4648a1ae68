"""Pairs of real titles: genres and score of `anime.csv`, scored plainly, with many ties."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "anime.csv"


def load(count: int) -> tuple[list[int], list[str], NDArray[np.float32]]:
    """Ids, titles and the matrix of the first `count` titles; float32 (count, count), NaN on the diagonal.

    0.75 x cosine of the genre sets + 0.25 x (1 - difference of scores / 9), rounded to 4 decimals; unknown scores
    count as 6.
    """
    with open(DATA, encoding="utf-8", newline="") as file:
        rows = [row for _, row in zip(range(count), csv.DictReader(file), strict=False)]
    genres = [set() if row["Genres"] == "UNKNOWN" else set(row["Genres"].split(", ")) for row in rows]
    names = sorted(set().union(*genres))
    member = np.array([[name in each for name in names] for each in genres], dtype=np.float64)
    member /= np.maximum(np.linalg.norm(member, axis=1, keepdims=True), 1.0)
    scores = np.array([6.0 if row["Score"] == "UNKNOWN" else float(row["Score"]) for row in rows])
    matrix = 0.75 * (member @ member.T) + 0.25 * (1 - np.abs(scores[:, None] - scores) / 9)
    matrix = matrix.round(4).astype(np.float32)
    matrix = np.maximum(matrix, matrix.T)
    np.fill_diagonal(matrix, np.nan)
    return [int(row["anime_id"]) for row in rows], [row["Name"] for row in rows], matrix


def write_json(path: Path, ids: list[int], matrix: NDArray[np.float32]) -> int:
    """Write all pairs as one JSON array of objects; the number of pairs."""
    with open(path, "w", encoding="ascii") as file:
        file.write("[")
        joint = ""
        for a in range(len(ids) - 1):
            row = matrix[a, a + 1 :].tolist()
            lines = [f'{{"a":{ids[a]},"b":{b},"score":{s:.4f}}}' for b, s in zip(ids[a + 1 :], row, strict=True)]
            file.write(joint + ",".join(lines))
            joint = ","
        file.write("]")
    return len(ids) * (len(ids) - 1) // 2
