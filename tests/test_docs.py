"""What the pages say of their examples and of our tests is true."""

import re

from tests.support.pages import MACHINES, PAGES, ROOT, blocks


def test_what_could_be_run_says_what_it_is():
    for page, number, language, text in blocks():
        assert language in ("", "sh", "python", "json", "toml"), f"{page.name}, block {number}: {language}"
        if not language:
            assert not re.search(r"^(simshard|curl|python|make) ", text, re.MULTILINE), f"{page.name}, block {number}"


def test_readme_and_deploy_say_the_same_commands_for_a_cluster():
    found = {page.name: text for page, _, _, text in blocks() if text.startswith(MACHINES)}
    assert found["README.md"] == found["deploy.md"]


def test_every_test_that_a_page_names_is_there():
    named = re.compile(r"`([\w/]*test_\w+\.py)::(test_\w+)`")  # paths in tests/
    assert any(named.search(page.read_text(encoding="utf-8")) for page in PAGES)
    for page in PAGES:
        for file, name in named.findall(page.read_text(encoding="utf-8")):
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"def {name}\(", text), f"{page.name}: {file}::{name}"
