"""Catalogues of every format through the command: ids, titles, attributes, and what is refused with which words."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from simshard.ingest.features import FeatureSpec
from simshard.shards.items import Items
from simshard.shards.store import Store
from tests.support.compute_command import DEFAULTS, ITEMS, assert_scores, payloads, refused, run


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
