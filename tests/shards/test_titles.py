import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simshard.shards.titles import Titles, plain, write_titles

TITLES = [
    "Naruto: Shippuden",
    "Boruto: Naruto Next Generations",
    "Naruto",
    None,
    "Pokémon the Movie",
    "The Rose of Versailles",
    "Kiki’s Delivery Service",
    "∀",
    "Narutomaki",
    "ASTRO BOY",
    "進撃の巨人",
    "Straße nach Ærø",
    "naruto",
]


@pytest.fixture(scope="module")
def titles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("titles")
    write_titles(folder, pa.array(TITLES))
    return Titles(folder)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("naruto", [2, 12, 0, 8, 1]),  # the title itself, whole words, the beginning of a longer word, words further on
        ("NARUTO  ship", [0]),
        ("next nar", [1]),
        ("generations", [1]),
        ("pokemon", [4]),
        ("Pokémón", [4]),
        ("kikis", [6]),
        ("kiki's del", [6]),
        ("astro", [9]),
        ("進撃", [10]),
        ("strasse aero", [11]),
        ("ersailles", []),
        ("∀", []),
        ("!?", []),
        ("nosuch naruto", []),
    ],
)
def test_titles_are_found_by_the_beginnings_of_their_words(titles, text, rows):
    found = titles.search(text, 10)
    assert found.rows.tolist() == rows
    assert found.total == len(rows)
    assert titles.search(text, 1).rows.tolist() == rows[:1]


def test_a_row_can_come_first(titles):
    assert titles.search("naruto", 2, first=9).rows.tolist() == [9, 2]
    assert titles.search("naruto", 9, first=1).rows.tolist() == [1, 2, 12, 0, 8]
    assert titles.search("naruto", 2, first=1).total == 5
    assert titles.search("!", 2, first=7).rows.tolist() == [7]


def test_no_titles_no_index(tmp_path):
    assert write_titles(tmp_path, None) is None
    assert write_titles(tmp_path, pa.array([None, None], pa.string())) is None


def naive(text):
    letters = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(letter for letter in letters if not unicodedata.category(letter).startswith("M"))
    letters = letters.casefold().replace("ø", "o").replace("æ", "ae").replace("'", "")
    return [word for word in re.split(r"[\W_]+", letters) if word]


WORDS = st.lists(
    st.sampled_from(["a", "ab", "abc", "É", "e", "ø", "don't", "42", "-", "Ab", "x_y", "ß", "が"]), max_size=4
)


@given(st.lists(st.none() | WORDS.map(" ".join), min_size=1, max_size=12), WORDS.map(" ".join), st.integers(1, 5))
def test_search_equals_a_scan(tmp_path_factory, titles, text, limit):
    folder = tmp_path_factory.mktemp("titles")
    if write_titles(folder, pa.array(titles, pa.string())) is None:
        return
    query = naive(text)
    ranked = []
    for row, title in enumerate(titles):
        words = naive(title or "")
        if query and all(any(word.startswith(part) for word in words) for part in query):
            whole, start = " ".join(words), " ".join(query)
            rank = 0 if f"{whole} ".startswith(f"{start} ") else 1 if whole.startswith(start) else 2
            ranked.append((rank, len(whole), row))
    found = Titles(folder).search(text, limit)
    assert found.rows.tolist() == [row for _, _, row in sorted(ranked)][:limit]
    assert found.total == len(ranked)
    assert plain(text) == " ".join(query)
