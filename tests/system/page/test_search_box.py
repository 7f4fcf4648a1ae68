"""Titles are found and chosen."""

import re
from urllib.parse import parse_qsl, urlsplit

from playwright.sync_api import expect

from tests.support.page import asked, chips, settled, titles


def test_titles_are_found_and_chosen_by_keyboard(visit, server):
    page = visit()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Pick titles you love")
    page.keyboard.press("/")
    for place, (text, keys) in enumerate(
        {"spirited": ["Enter"], "princess mon": ["Enter"], "naru": ["ArrowDown", "ArrowUp", "Shift+Enter"]}.items()
    ):
        with page.expect_response(
            lambda answer, text=text: dict(parse_qsl(urlsplit(answer.url).query)).get("q") == text
        ):
            page.keyboard.type(text, delay=20)
        expect(page.get_by_role("option").first).to_be_visible()
        expect(page.get_by_role("option").first).to_contain_text(re.compile(text, re.IGNORECASE))
        for key in keys:
            page.keyboard.press(key)
        expect(page.locator(".seed")).to_have_count(place + 1)
    assert chips(page) == [("Spirited Away", True), ("Princess Mononoke", True), ("Naruto", False)]
    assert titles(settled(page)) == asked(server, positive=["spirited-away", "princess-mononoke"], negative=["naruto"])
    page.keyboard.type("zzzzz")
    expect(page.get_by_text("Nothing found")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Nothing found")).to_be_hidden()


def test_enter_waits_for_the_answer_to_what_was_typed(visit):
    page = visit()
    box = page.get_by_role("combobox")
    box.fill("naruto")
    expect(page.get_by_role("option").first).to_contain_text("Naruto")
    held = []
    page.route("**/v1/items*", lambda route: held.append(route))  # noqa: PLW0108
    box.fill("trigun")
    box.press("Enter")
    page.wait_for_timeout(400)
    assert page.locator(".seed").count() == 0  # not what was found before
    page.route("**/v1/items*", lambda route: route.continue_())
    for route in held:
        route.continue_()
    expect(page.locator(".seed .name")).to_have_text("Trigun")
    page.unroute_all()


def test_the_box_takes_what_no_title_can_be(visit):
    page = visit()
    page.get_by_role("combobox").fill("x" * 199 + "😀" + "y" * 50)
    expect(page.get_by_text("Nothing found")).to_be_visible()
    page.get_by_role("combobox").fill("%&?#+/\\")
    expect(page.locator(".drop .hint")).to_be_visible()
