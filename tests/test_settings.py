"""Settings: from a file, from flags, and what cannot be meant."""

from pathlib import Path

import pytest
import yaml

from simshard.serve.settings import InvalidSetting, Settings, check_bind, read_settings, settings_from

ROOT = Path(__file__).resolve().parents[1]
FILE = """
replicas = 2
redis_classes = ["similar"]
image = "poster"
default_filter = "clean"

[filters.grown]
must = [{ key = "year", range = { gte = 1990 } }]

[filters.clean]
must = [{ filter = "grown" }]
must_not = [{ key = "tags", match = { any = ["War"] } }]
"""


def test_a_file(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(FILE)
    settings = settings_from({"store": "x", **read_settings(path)})
    assert (settings.replicas, settings.redis_classes, settings.default_filter) == (2, ("similar",), "clean")
    assert (settings.image, Settings("x").image) == ("poster", None)
    grown = {"must": [{"key": "year", "range": {"gte": 1990}}], "should": [], "must_not": []}
    clean = {
        "must": [{"filter": grown}],
        "should": [],
        "must_not": [{"key": "tags", "match": {"any": ["War"]}}],
    }
    assert settings.named_filters() == {"grown": grown, "clean": clean}
    assert Settings("x").named_filters() == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("replicas = ", "not TOML"),
        ("replica = 2", "replica: no such setting; there are admin_key, api_key"),
        ('replicas = "two"', "replicas: Input should be a valid integer"),
        ("replicas = 0", "replicas: at least 1"),
        ("image = 3", "image: Input should be a valid string"),
        ("keep_open = nan", "keep_open: at least 0"),
        ('filters = "clean"', "filters: Input should be a valid dictionary"),
        ('default_filter = "clean"', "default_filter 'clean': not one of filters"),
        ('[filters."a b"]\nmust = []', "filters: the name 'a b'"),
        ("[filters.a]\nmight = []", "filters.a.might: no such field"),
        ('[filters.a]\nmust = [{ key = "x" }]', r"filters.a.must\[0\]: exactly one of match"),
        ('[filters.a]\nmust = [{ filter = "b" }]\n[filters.b]', r"filters.a.must\[0\].filter: no filter is named 'b'"),
    ],
)
def test_what_cannot_be_meant(tmp_path, content, words):
    path = tmp_path / "settings.toml"
    path.write_text(content)
    with pytest.raises(InvalidSetting, match=words):
        settings_from({"store": "x", **read_settings(path)})


def test_the_config_for_serve_run_is_one():
    config = yaml.safe_load((ROOT / "serve" / "serve-config.yaml").read_text())
    (application,) = config["applications"]
    settings = settings_from(application["args"])
    assert (settings.name, settings.store) == (application["name"], "demo-store")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidSetting, match=r"none\.toml: cannot be read"):
        read_settings(tmp_path / "none.toml")


def test_binding_beyond_this_machine_needs_a_key():
    check_bind("127.0.0.1", None)
    check_bind("localhost", None)
    check_bind("0.0.0.0", "k3y")
    for host in ("0.0.0.0", "10.0.0.1", "example"):
        with pytest.raises(InvalidSetting, match="SIMSHARD_API_KEY"):
            check_bind(host, None)
