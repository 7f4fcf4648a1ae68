"""What `serve` refuses before anything starts."""

import json

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from simshard.cli.main import app
from tests.support.builder import random_matrix, write_store
from tests.support.catalogue import columns_of, items_of


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    items = items_of(40)
    columns = columns_of(items)
    columns["poster"] = pa.array([f"https://host{row % 3}.example/{row}" if row else None for row in range(40)])
    return write_store(tmp_path_factory.mktemp("attributes"), random_matrix(2, 40), attributes=columns)


@pytest.mark.parametrize("image", ["nothing", "year"])
@pytest.mark.parametrize("way", ["flag", "file"])
def test_serve_refuses_an_image_that_the_snapshot_does_not_have(store, tmp_path, image, way):
    (tmp_path / "settings.toml").write_text(f"image = {json.dumps(image)}")
    options = ["--image", image] if way == "flag" else ["--settings", str(tmp_path / "settings.toml")]
    result = CliRunner().invoke(app, ["serve", "--store", str(store.root), *options])
    assert result.exit_code == 1
    assert f"image '{image}': the items have no text attribute of that name" in result.stderr
    assert (
        "there are title (string), type (string), year (int64), rating (float64), tags (list<string>)" in result.stderr
    )
    assert len(result.stderr.strip().splitlines()) == 1
