"""The registry of pair formats: what a file is taken for, and what is told where nothing tells."""

import io
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest

from simshard.ingest import pair_formats
from simshard.ingest.pair_formats import FORMATS, PairFormat, choose
from simshard.ingest.streams import Stream
from simshard.shards.errors import InputError

MATRIX = PairFormat("mtx", "Matrix Market", (".mtx",), "none:none", b"%%MatrixMarket")


@pytest.fixture(autouse=True)
def _with_another(monkeypatch):
    """A streamed format with magic bytes, which none of ours is."""
    monkeypatch.setattr(pair_formats, "_LINES", (*FORMATS.values(), MATRIX))
    monkeypatch.setitem(FORMATS, MATRIX.name, MATRIX)


def chosen(folder, monkeypatch, name, head, said=None):
    path = "-" if name == "-" else str(folder / name)
    if path == "-":
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(head)))
    else:
        (folder / name).write_bytes(head)
    with closing(Stream(path)) as stream:
        return choose(stream, said).name


@pytest.mark.parametrize(
    ("name", "head", "said", "format_"),
    [
        ("x.json", b"anything", None, "json"),
        ("x.JSONL", b"anything", None, "ndjson"),
        ("x.ndjson.zst", b"", "parquet", "parquet"),  # not opened
        ("x.parquet", b"anything", None, "parquet"),
        ("x.parquet", b"", None, "parquet"),
        ("x.parquet", b"[1]", "json", "json"),
        ("x.mtx", b"anything", None, "mtx"),
        ("-", b" [ {", None, "json"),
        ("-", b"\xef\xbb\xbf[\n[", None, "json"),
        ("-", b"[1, 2, 3]", None, "ndjson"),
        ("-", b"anything", None, "ndjson"),
        ("-", b"%%MatrixMarket matrix", None, "mtx"),
        ("-", b"[[", "ndjson", "ndjson"),
    ],
)
def test_what_a_file_is_taken_for(tmp_path, monkeypatch, name, head, said, format_):
    assert chosen(tmp_path, monkeypatch, name, head, said) == format_


@pytest.mark.parametrize(
    ("name", "head", "said", "reason"),
    [
        ("x.json", b"PAR1", None, "it is Parquet by its first bytes; say --format parquet"),
        ("x.txt", b"PAR1", None, "it is Parquet by its first bytes; say --format parquet"),
        ("x.mtx", b"PAR1", "mtx", "it is Parquet by its first bytes; say --format parquet"),
        ("-", b"PAR1", None, "stdin: it is Parquet by its first bytes; write it to a file, and name that"),
        ("x.parquet", b"%%MatrixMarket", None, "it is Matrix Market by its first bytes; say --format mtx"),
        ("x.txt", b"%%MatrixMarket", None, "it is Matrix Market by its first bytes; say --format mtx"),
        ("-", b"%%MatrixMarket", "json", "stdin: it is Matrix Market by its first bytes; say --format mtx"),
        ("x.txt", b"anything", None, "the format is not told by the name; say --format json, ndjson, parquet or mtx"),
        ("x.json", b"[[", "xml", "--format xml: known formats are json, ndjson, parquet and mtx"),
        ("-", b" ", None, "stdin: empty"),
    ],
)
def test_what_is_told_where_bytes_disagree_or_nothing_tells(tmp_path, monkeypatch, name, head, said, reason):
    with pytest.raises(InputError) as told:
        chosen(tmp_path, monkeypatch, name, head, said)
    assert reason in str(told.value)
