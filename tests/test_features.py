"""Catalogues and features through the command: what fits, and what is refused with which words."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from simshard.cli.main import app
from simshard.ingest.features import FeatureSpec, parse_feature
from simshard.shards.errors import InputError
from simshard.shards.items import Items
from simshard.shards.store import Store
from tests import scores
from tests.builder import read_matrix

RUNNER = CliRunner()
ITEMS = [
    {"id": 1, "title": "One", "tags": ["a", "b"], "year": 2000, "rating": 8.5, "type": "TV"},
    {"id": 2, "title": "Two", "tags": ["b"], "year": 2004, "rating": None, "type": "Movie"},
    {"id": 3, "title": "Three", "tags": ["a", "b", "c"], "year": 2010, "rating": 6.5, "type": "TV"},
]
DEFAULTS = [
    parse_feature(text) for text in ("tags:set=0.6", "rating:number=0.2", "year:number=0.15", "type:category=0.05")
]


def run(*arguments, code=0):
    result = RUNNER.invoke(app, ["compute", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def refused(folder, items, *arguments, code=1):
    """What is said of a catalogue that cannot be computed; nothing was published."""
    path = folder / "items.json"
    if items is not None:
        path.write_text(json.dumps(items))
    told = run(path, "--store", folder / "store", *arguments, code=code).stderr
    assert not list((folder / "store").glob("snapshots/*"))
    return " ".join(told.replace("│", " ").split())


def assert_scores(store, items, specs):
    matrix = read_matrix(Store(store))
    for a in range(len(items)):
        for b in range(len(items)):
            right = None if a == b else scores.score(items, specs, items[a], items[b])
            assert matrix[a, b] == pytest.approx(math.nan if right is None else right, abs=1e-6, nan_ok=True)


def test_the_defaults_and_the_summary(tmp_path):
    path = tmp_path / "items.json"
    path.write_text(json.dumps(ITEMS))
    told = run(path, "--store", tmp_path / "store").stdout
    assert "3 items, 3 pairs, dense" in told
    assert "scores: least " in told
    assert_scores(tmp_path / "store", ITEMS, DEFAULTS)


@pytest.mark.parametrize("kind", ["ndjson", "csv", "tsv", "parquet", "json.gz"])
def test_every_format_says_the_same(tmp_path, kind):
    path = tmp_path / f"items.{kind}"
    if kind == "ndjson":
        path.write_text("\n".join(map(json.dumps, ITEMS)))
    elif kind == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist(ITEMS), path)
    elif kind == "json.gz":
        with pa.output_stream(str(path), compression="gzip") as stream:
            stream.write(json.dumps(ITEMS).encode())
    else:
        tab = "\t" if kind == "tsv" else ","
        rows = [
            [
                item["id"],
                item["title"],
                f'"{", ".join(item["tags"])}"',
                item["year"],
                item["rating"] or "UNKNOWN",
                item["type"],
            ]
            for item in ITEMS
        ]
        path.write_text("\n".join(tab.join(map(str, row)) for row in [list(ITEMS[0]), *rows]))
    run(path, "--store", tmp_path / "store")
    assert_scores(tmp_path / "store", ITEMS, DEFAULTS)
    store = Store(tmp_path / "store")
    items = Items(store.snapshots / store.resolve())
    for row, item in enumerate(ITEMS):
        assert items.id(row) == item["id"]
        assert items.payload(row) == {k: v for k, v in item.items() if k != "id" and v is not None}


def test_an_envelope_with_nested_fields_and_other_names(tmp_path):
    items = [
        {"key": "x", "name": "X", "season": {"year": 1999}, "genre": "a|b", "studios": "Foo"},
        {"key": "y", "name": "Y", "season": {"year": 2003}, "genre": "b | c", "studios": "Bar"},
        {"key": "z", "name": "UNKNOWN", "season": {"year": "UNKNOWN"}, "genre": "", "studios": "Foo"},
    ]
    path = tmp_path / "dump.json"
    path.write_text(json.dumps({"license": {"name": "x"}, "result": {"data": items}}))
    options = ("--path", "result.data", "--id", "key", "--split", "genre=|", "--json")
    features = (
        "--feature",
        "season.year:number=2",
        "--feature",
        "genre:set:jaccard=1",
        "--feature",
        "studios:category",
    )
    manifest = json.loads(run(path, "--store", tmp_path / "store", *options, *features).stdout)
    assert [feature["column"] for feature in manifest["options"]["features"]] == ["season.year", "genre", "studios"]
    flat = [
        {"year": item["season"]["year"], "genre": item["genre"].split("|"), "studios": item["studios"]}
        for item in items
    ]
    flat[2]["year"] = None
    specs = [
        FeatureSpec("year", "number", 2),
        FeatureSpec("genre", "set", 1, "jaccard"),
        FeatureSpec("studios", "category"),
    ]
    assert_scores(tmp_path / "store", flat, specs)
    store = Store(tmp_path / "store")
    payload = Items(store.snapshots / store.resolve()).payload(1)
    assert payload == {"title": "Y", "season.year": 2003, "genre": ["b", "c"], "studios": "Bar"}


def test_titles_that_are_numbers_are_text(tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("id,name,title,year\n1,86,a,2021\n2,1984,,1984\n")
    run(items, "--store", tmp_path / "store", "--title", "name")
    store = Store(tmp_path / "store")
    payload = Items(store.snapshots / store.resolve()).payload(0)
    assert payload == {"title": "86", "other_title": "a", "year": 2021}


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


def test_a_catalogue_that_does_not_fit_is_named(tmp_path):
    assert "items 1 and 3 have the same id 7" in refused(tmp_path, [{"id": 7}, {"id": 8}, {"id": 7}])
    assert "1 items; from 2" in refused(tmp_path, ITEMS[:1])
    assert "missing in every item" in refused(
        tmp_path, [{"id": 1, "v": [0.0]}, {"id": 2, "v": [0.0]}], "--feature", "v:vector"
    )
    assert "none.csv: there is no such file" in run(tmp_path / "none.csv", "--store", tmp_path, code=1).stderr
    empty = [{"id": 1, "tags": []}, {"id": 2, "tags": ["UNKNOWN"]}]
    assert "feature 'tags:set': no column 'tags' with values" in refused(tmp_path, empty, "--feature", "tags:set")
    assert "no two items have a feature in common" in refused(tmp_path, [{"id": 1, "year": 5}, {"id": 2, "type": "TV"}])
    names = refused(tmp_path, [{"id": 1, "name": "x", "v": [0.5]}, {"id": 2, "name": "y", "v": [1]}])
    assert "none of the default features (tags:set, " in names
    assert "There are v (lists of numbers), title (text)" in names
    envelope = {"data": ITEMS, "about": 1}
    assert "the document is an object with data, about; name the array in it with --path" in refused(tmp_path, envelope)
    (tmp_path / "items.json").write_text('[{"id": 1, "year": 3}, {"id": 2, "year"')
    assert "not valid JSON after item 1" in refused(tmp_path, None)
    (tmp_path / "items.json").write_text('[{"id": 1, "year": 3}, {"id": 2, "year": NaN}]')
    assert "not valid JSON after item 1" in refused(tmp_path, None)
    assert "item 1 has the field 'a.b' twice" in refused(tmp_path, [{"id": 1, "a.b": 1, "a": {"b": 2}}, {"id": 2}])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,year,x,x\n1,2,3,4\n2,3,4,5\n", "two columns are named 'x'; rename one"),
        (b"id,id\n1,2\n", "two columns are named 'id'"),
        (b"id,year\n1,2\n2,3,4\n", "Row #3"),
        ("id,about,year\n1,é,3\n2,b,4\n".encode("latin-1"), "column 'about' is not UTF-8 text; convert the file"),
        ("id,title,year\n1,é,3\n2,b,4\n".encode("latin-1"), "Row #2: CSV conversion error to string: invalid UTF8"),
    ],
)
def test_csv_files_that_do_not_fit(tmp_path, content, words):
    (tmp_path / "items.csv").write_bytes(content)
    assert words in run(tmp_path / "items.csv", "--store", tmp_path / "store", code=1).stderr


def payloads(store):
    store = Store(store)
    items = Items(store.snapshots / store.resolve())
    return {items.id(row): items.payload(row) for row in range(len(items))}


def test_ids_and_titles_of_csv_are_what_they_were_written_as(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("\ufeffid,Name,year\n007,0086,1\n12,true,2\n2020-01-01,1e5,3\n")
    run(path, "--store", tmp_path / "store")
    assert [(id_, payload["title"]) for id_, payload in payloads(tmp_path / "store").items()] == [
        ("007", "0086"),
        ("12", "true"),
        ("2020-01-01", "1e5"),
    ]
    path.write_text("id,year\n-7,1\n0,2\n9223372036854775807,3\n")
    run(path, "--store", tmp_path / "store")
    assert list(payloads(tmp_path / "store")) == [-7, 0, str(2**63 - 1)]
    path.write_text("id,year\n1,1\n99999999999999999999,2\n")
    run(path, "--store", tmp_path / "store")
    assert list(payloads(tmp_path / "store")) == ["1", "99999999999999999999"]


def test_columns_that_are_no_attributes_are_left_out_and_told(tmp_path):
    items = [
        {"id": "x", "key": 1, "year": 3, "studios": [{"name": "S"}], "grid": [[1, 2]]},
        {"id": "y", "key": 2, "year": 4, "studios": [], "grid": [[3]]},
    ]
    path = tmp_path / "items.json"
    path.write_text(json.dumps(items))
    told = run(path, "--store", tmp_path / "store", "--id", "key").stderr
    assert "left out: column 'studios' of type list" in told
    assert "left out: column 'grid' of type list" in told
    assert payloads(tmp_path / "store") == {1: {"other_id": "x", "year": 3}, 2: {"other_id": "y", "year": 4}}
    named = run(path, "--store", tmp_path / "store", "--feature", "studios:set", code=1).stderr
    assert "column 'studios' holds list<" in named
    assert "set needs text, numbers or lists of texts" in named


def test_structs_of_parquet_have_dotted_names(tmp_path):
    table = pa.table({"id": [1, 2], "season": [{"year": 1999, "of": {"name": "fall"}}, {"year": 2001, "of": None}]})
    pa.parquet.write_table(table, tmp_path / "items.parquet")
    run(tmp_path / "items.parquet", "--store", tmp_path / "store", "--feature", "season.year:number")
    assert payloads(tmp_path / "store") == {
        1: {"season.year": 1999, "season.of.name": "fall"},
        2: {"season.year": 2001},
    }


def test_lists_of_fixed_size_with_nulls(tmp_path):
    lists = [["a", "b"], None, ["b", None], ["c", "a"]]
    table = pa.table({"id": range(4), "t": pa.array(lists, pa.list_(pa.string(), 2))})
    pa.parquet.write_table(table, tmp_path / "items.parquet")
    run(tmp_path / "items.parquet", "--store", tmp_path / "store", "--feature", "t:set")
    assert_scores(tmp_path / "store", [{"t": terms} for terms in lists], [FeatureSpec("t", "set")])


def test_the_title_can_be_a_feature_under_its_own_name(tmp_path):
    items = [{"id": i, "Name": name} for i, name in enumerate(["Red, Blue", "Blue", "Red, Blue"])]
    (tmp_path / "items.json").write_text(json.dumps(items))
    for features in (["Name:category"], ["title:set", "Name:category"]):
        flags = [word for feature in features for word in ("--feature", feature)]
        run(tmp_path / "items.json", "--store", tmp_path / "store", *flags)
        assert payloads(tmp_path / "store")[0] == {"title": "Red, Blue"}
        cells = [{"title": item["Name"], "Name": item["Name"]} for item in items]
        assert_scores(tmp_path / "store", cells, [parse_feature(feature) for feature in features])


def test_title_before_name_and_the_id_as_title(tmp_path):
    path = tmp_path / "items.json"
    path.write_text(json.dumps([{"id": 1, "name": "n", "title": "t", "year": 1}, {"id": 2, "year": 2}]))
    run(path, "--store", tmp_path / "store")
    assert payloads(tmp_path / "store")[1] == {"title": "t", "name": "n", "year": 1}
    path.write_text(json.dumps([{"name": "n", "year": 1}, {"name": "m", "year": 2}]))
    run(path, "--store", tmp_path / "store", "--id", "name")
    assert payloads(tmp_path / "store")["n"] == {"title": "n", "year": 1}


def test_numbers_in_text_with_blanks(tmp_path):
    items = [{"id": 1, "r": " 7.5"}, {"id": 2, "r": "8 "}, {"id": 3, "r": "UNKNOWN"}, {"id": 4, "r": "9.5"}]
    (tmp_path / "items.json").write_text(json.dumps(items))
    run(tmp_path / "items.json", "--store", tmp_path / "store", "--feature", "r:number")
    cells = [{"r": 7.5}, {"r": 8.0}, {"r": None}, {"r": 9.5}]
    assert_scores(tmp_path / "store", cells, [FeatureSpec("r", "number")])


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
