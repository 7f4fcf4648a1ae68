"""Features through the command: what fits, and what is refused with which words."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from simshard.ingest.features import FeatureSpec, parse_feature
from simshard.shards.errors import InputError
from tests.support.compute_command import DEFAULTS, ITEMS, assert_scores, payloads, refused, run


def test_the_defaults_and_the_summary(tmp_path):
    path = tmp_path / "items.json"
    path.write_text(json.dumps(ITEMS))
    told = run(path, "--store", tmp_path / "store").stdout
    assert "3 items, 3 pairs, dense" in told
    assert "scores: least " in told
    assert_scores(tmp_path / "store", ITEMS, DEFAULTS)


def test_features_from_a_file_are_kept_in_the_manifest(tmp_path):
    (tmp_path / "items.json").write_text(json.dumps([{"id": 1, "a:=b": "x;y"}, {"id": 2, "a:=b": "y;z"}]))
    toml = tmp_path / "features.toml"
    toml.write_text(
        '[[feature]]\ncolumn = "a:=b"\nkind = "set"\nmeasure = "jaccard"\nidf = true\nsplit = ";"\nweight = 2\n'
    )
    arguments = (tmp_path / "items.json", "--store", tmp_path / "store", "--features", toml)
    manifest = json.loads(run(*arguments, "--json").stdout)
    assert manifest["options"]["features_toml"] == toml.read_text()
    items = [{"a": ["x", "y"]}, {"a": ["y", "z"]}]
    assert_scores(tmp_path / "store", items, [FeatureSpec("a", "set", 2, "jaccard", True)])


@pytest.mark.parametrize("name", ["vectors.npy", "vectors"])
def test_vectors_beside_the_catalogue(tmp_path, name):
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    vectors[1] = 0
    np.save(tmp_path / "vectors.npy", vectors)
    (tmp_path / "items.json").write_text(json.dumps(ITEMS))
    run(
        tmp_path / "items.json",
        "--store",
        tmp_path / "store",
        "--feature",
        f"{name}:vector=1",
        "--feature",
        "year:number",
    )
    items = [{**item, "v": vector.tolist()} for item, vector in zip(ITEMS, vectors, strict=True)]
    assert_scores(tmp_path / "store", items, [FeatureSpec("v", "vector"), FeatureSpec("year", "number")])


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.large_list(pa.int32())])
def test_vectors_in_parquet(tmp_path, kind):
    vectors = [[1, 2], None, [2, -1], [3, 1]]
    table = pa.table({"id": pa.array(range(4)), "v": pa.array(vectors, kind)})
    pa.parquet.write_table(table, tmp_path / "items.parquet")
    run(tmp_path / "items.parquet", "--store", tmp_path / "store", "--feature", "v:vector:cosine")
    assert_scores(tmp_path / "store", [{"v": vector} for vector in vectors], [FeatureSpec("v", "vector")])


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("tags:set=0.6", FeatureSpec("tags", "set", 0.6)),
        ("tags:set", FeatureSpec("tags", "set")),
        ("a:b=c:set:idf:jaccard", FeatureSpec("a:b=c", "set", 1, "jaccard", True)),
        ("set:set:cosine=1e2", FeatureSpec("set", "set", 100)),
        ("a.b:number=0", FeatureSpec("a.b", "number", 0)),
    ],
)
def test_flags(text, spec):
    assert parse_feature(text) == spec


@pytest.mark.parametrize(
    "text", ["", "tags", "tags:sets=1", ":set=1", "tags:set:jaccard:cosine", "a:set:dice=1", "x:number:idf"]
)
def test_flags_that_say_nothing(text):
    with pytest.raises(InputError, match=r"COLUMN:KIND|options of kind set"):
        parse_feature(text)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--feature", "genre:set"], "no column 'genre' with values; there are title (text), tags (lists of text)", 1),
        (["--feature", "title:number"], "column 'title' holds text, 'One' in item 1 (id 1); number needs numbers", 1),
        (["--feature", "tags:number"], "column 'tags' holds lists of text; number needs numbers", 1),
        (["--feature", "tags:category"], "column 'tags' holds lists of text; category needs one text or number", 1),
        (["--feature", "year:set"], "column 'year' holds whole numbers; set needs lists of texts", 1),
        (["--feature", "tags:vector"], "column 'tags' holds lists of text; vector needs lists of numbers", 1),
        (["--feature", "v:vector"], "no column 'v', and no file 'v.npy' beside the catalogue", 1),
        (["--feature", "../v:vector"], "no column '../v'", 1),
        (["--feature", "year:number=-1"], "a weight is a number >= 0, not -1", 2),
        (["--feature", "year:number=nan"], "a weight is a number >= 0, not nan", 2),
        (["--feature", "year:number=0", "--feature", "tags:set=0"], "all features have weight 0", 1),
        (["--feature", "year:number", "--feature", "year:number=2"], "'year:number' is given twice", 1),
        (["--feature", "year:number=1e-200", "--feature", "tags:set"], "weight 1e-200 cannot be summed", 1),
        (["--split", "genre=|"], "no column 'genre' to split", 1),
        (["--split", "year=|"], "only text can be split", 1),
        (["--split", "year"], "is not COLUMN=SEP", 2),
        (["--id", "key"], "no column 'key' for the ids", 1),
        (["--title", "tags"], "column 'tags' holds lists; a title is a text", 1),
        (["--path", "data"], "no items at --path 'data'", 1),
        (["--top", "0"], "--top", 2),
        (["--score-threshold", "nan"], "a number is needed", 2),
        (["--memory", "1MB"], "at least 16 MB", 1),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path, arguments, words, code):
    assert words in refused(tmp_path, ITEMS, *arguments, code=code)


def test_the_title_can_be_a_feature_under_its_own_name(tmp_path):
    items = [{"id": i, "Name": name} for i, name in enumerate(["Red, Blue", "Blue", "Red, Blue"])]
    (tmp_path / "items.json").write_text(json.dumps(items))
    for features in (["Name:category"], ["title:set", "Name:category"]):
        flags = [word for feature in features for word in ("--feature", feature)]
        run(tmp_path / "items.json", "--store", tmp_path / "store", *flags)
        assert payloads(tmp_path / "store")[0] == {"title": "Red, Blue"}
        cells = [{"title": item["Name"], "Name": item["Name"]} for item in items]
        assert_scores(tmp_path / "store", cells, [parse_feature(feature) for feature in features])


@pytest.mark.parametrize("kind", ["set", "number", "category"])
def test_lists_of_decimal_numbers_fit_vectors_only(tmp_path, kind):
    items = [{"id": 1, "v": [0.5, 1.5]}, {"id": 2, "v": [1.0, 2.5]}]
    told = refused(tmp_path, items, "--feature", f"v:{kind}")
    assert "column 'v' holds lists of decimal numbers" in told
    assert "vector would fit" in told


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([[1, 2], None, [1, 2, 3]], "the vector of item 3 (id 13) has 3 values, that of item 1 (id 11) has 2"),
        ([[1, 2.5], [1, None], [1, 2]], "the vector of item 2 (id 12) has a value that is no number"),
        ([[0, 0], [0, 0], None], "missing in every item"),
    ],
)
def test_vectors_that_do_not_fit_are_named(tmp_path, vectors, words):
    items = [{"id": 11 + i, "v": vector} for i, vector in enumerate(vectors)]
    assert words in refused(tmp_path, items, "--feature", "v:vector")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((2, 4)), "2 rows, but the catalogue has 3 items"),
        (np.ones(3), "shape (3,); a matrix of numbers is needed"),
        (np.array([["a"], ["b"], ["c"]]), "a matrix of numbers is needed"),
        (np.array([[1.0], [2.0], [math.inf]]), "the vector of item 3 (id 3) has a value that is no number"),
        (np.array([[{}], [1], [2]], dtype=object), "not a .npy file of numbers"),
    ],
)
def test_vector_files_that_do_not_fit_are_named(tmp_path, array, words):
    np.save(tmp_path / "v.npy", array, allow_pickle=True)
    assert words in refused(tmp_path, ITEMS, "--feature", "v:vector")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[feature]\n", "cannot be read as TOML"),
        ("feature = []", "holds [[feature]] tables and nothing else"),
        (f"[[feature]]\ncolumn = 'year'\nkind = 'number'\nweight = {10**400}", "a weight is a number >= 0, not inf"),
        (
            "[[feature]]\ncolumn = 'title'\nkind = 'set'\nsplit = 'n'\n"
            "[[feature]]\ncolumn = 'title'\nkind = 'set'\nidf = true\nsplit = 'o'\n",
            "its column is split at 'n' by another feature",
        ),
        ("feature = 3", "holds [[feature]] tables and nothing else"),
        ("[[features]]\nkind = 'set'", "nothing else, but found features"),
        ("[[feature]]\nkind = 'set'", "feature 1: needs a column"),
        ("[[feature]]\ncolumn = 'tags'\nkind = 'list'", "a kind out of set, number, category, vector"),
        ("[[feature]]\ncolumn = 'tags'\nkind = 'set'\nwieght = 2", "no such key 'wieght'"),
        ("[[feature]]\ncolumn = 'tags'\nkind = 'set'\nweight = '2'", "weight = '2' has the wrong type"),
        ("[[feature]]\ncolumn = 'tags'\nkind = 'set'\nweight = -2", "a weight is a number >= 0"),
        ("[[feature]]\ncolumn = 'tags'\nkind = 'set'\nmeasure = 'dice'", "measure is cosine or jaccard, not 'dice'"),
        ("[[feature]]\ncolumn = 'year'\nkind = 'number'\nidf = true", "are options of kind set, not of number"),
        ("[[feature]]\ncolumn = 'tags'\nkind = 'set'\nsplit = ''", "split is empty"),
    ],
)
def test_files_of_features_that_do_not_fit(tmp_path, text, words):
    (tmp_path / "f.toml").write_text(text)
    assert words in refused(tmp_path, ITEMS, "--features", tmp_path / "f.toml")
    assert "cannot be read as TOML" in refused(tmp_path, ITEMS, "--features", tmp_path / "none.toml")
