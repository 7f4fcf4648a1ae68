"""The catalogue of titles that parts are measured on: `anime.csv`, or one of one's own; pairs of it, scored plainly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simshard.ingest.catalogue import read_catalogue, split_texts
from simshard.shards.errors import InputError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "anime.csv"
LACKING = (
    "24,901 real titles in ../shared/data/anime.csv, which is no part of the project, and is not there; "
    "bring any catalogue that `simshard compute` reads with --catalogue FILE"
)
LEAST = 1_000  # items: as many candidates are ranked at once
_TAGS = ("tags", "genres")


@dataclass(frozen=True)
class Titles:
    """ids, whole numbers (N); titles (N); genres, lists of text (N); scores and episodes (N), None where unknown.

    Of a catalogue of one's own, genres are its tags, scores and episodes its first two columns of numbers. `columns`
    names the three in the file, where the ids stand in `id_column`. `high` is a score that few titles reach.
    """

    path: Path
    id_column: str
    columns: tuple[str, str, str]
    ids: list[int]
    titles: list[str]
    genres: list[list[str]]
    scores: list[float | None]
    episodes: list[float | None]
    high: float


def read(path: Path = DATA, id_column: str | None = None) -> Titles:
    """A catalogue of any format that `simshard compute` reads. Raises SystemExit, saying what it lacks.

    Tags are a column named tags or genres, or else the first of lists, or else the text with the most commas, at which
    texts are split. Ids that are text are numbered, as requests are made of whole numbers here.
    """
    id_column = id_column or ("anime_id" if path == DATA else "id")
    try:
        catalogue = read_catalogue(str(path), id_column)
    except InputError as error:
        raise SystemExit(str(error)) from error
    found = {name: column for name, column in catalogue.attributes.items() if name != "title"}
    numbers = [name for name, column in found.items() if pa.types.is_integer(column.type) or _decimal(column.type)]
    tags = max((name for name in found if name not in numbers), key=lambda name: _like_tags(name, found), default=None)
    count = len(catalogue.ids)
    if tags is None or not numbers or count < LEAST:
        raise SystemExit(
            f"{path.name}: these parts need {LEAST:,} items or more, a column of tags (lists, or texts with commas) "
            f"and one of numbers; there are {count:,} items and {', '.join(found) or 'no columns'}"
        )
    score, episodes = numbers[0], numbers[1 % len(numbers)]
    lists = found[tags] if pa.types.is_list(found[tags].type) else split_texts(found[tags], ",")
    ids = catalogue.ids.to_pylist() if pa.types.is_integer(catalogue.ids.type) else list(range(1, count + 1))
    titles = catalogue.attributes.get("title", catalogue.ids.cast(pa.string())).to_pylist()
    scores, others = (found[name].cast(pa.float64()).to_pylist() for name in (score, episodes))
    return Titles(
        path,
        id_column,
        (tags, score, episodes),
        ids,
        [title or "" for title in titles],
        [each or [] for each in lists.to_pylist()],
        scores,
        others,
        8.0 if path == DATA else float(np.quantile([each for each in scores if each is not None], 0.975)),
    )


def _decimal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind))


def _like_tags(name: str, columns: dict[str, pa.Array]) -> tuple[bool, bool, int]:
    """What the column of the tags has the most of."""
    column = columns[name]
    if pa.types.is_list(column.type):
        return name.lower() in _TAGS, True, 0
    return name.lower() in _TAGS, False, pc.sum(pc.count_substring(column, ",")).as_py() or 0


def load(count: int, titles: Titles | None = None) -> tuple[list[int], list[str], NDArray[np.float32]]:
    """Ids, titles and the matrix of the first `count` titles; float32 (count, count), NaN on the diagonal.

    0.75 x cosine of the genre sets + 0.25 x (1 - difference of scores / 9), rounded to 4 decimals; unknown scores
    count as 6. Scores of a catalogue of one's own are brought to 1 to 10 first.
    """
    titles = titles or read()
    genres = [set(each) for each in titles.genres[:count]]
    names = sorted(set().union(*genres))
    member = np.array([[name in each for name in names] for each in genres], dtype=np.float64)
    member /= np.maximum(np.linalg.norm(member, axis=1, keepdims=True), 1.0)
    scores = np.array([np.nan if each is None else each for each in titles.scores[:count]], dtype=np.float64)
    if titles.path != DATA:
        known = scores[~np.isnan(scores)]
        low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
        scores = 1 + 9 * (scores - low) / max(high - low, 1e-9)
    scores = np.nan_to_num(scores, nan=6.0)
    matrix = 0.75 * (member @ member.T) + 0.25 * (1 - np.abs(scores[:, None] - scores) / 9)
    rounded: NDArray[np.float32] = matrix.round(4).astype(np.float32)
    rounded = np.maximum(rounded, rounded.T)
    np.fill_diagonal(rounded, np.nan)
    return titles.ids[:count], titles.titles[:count], rounded


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
