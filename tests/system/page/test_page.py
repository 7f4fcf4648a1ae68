"""The page as a whole: access for everybody, its size, its headers, any catalogue."""

import httpx
from playwright.sync_api import expect

from simshard.serve.http.static_page import guarded
from tests.support.browser import npm_packages
from tests.support.page import CHOSEN, settled
from tests.support.session_store import ITEMS


def test_axe_finds_nothing_serious(visit):
    axe = npm_packages() / "axe-core" / "axe.min.js"
    chosen = (f"{CHOSEN}&hood=1&is.type=Movie&not.tags=War", f"{CHOSEN}&view=map&at=trigun", "?dislike=naruto")
    for query in ("", "?hood=1", *chosen):
        for options in (
            {"color_scheme": "light"},
            {"color_scheme": "dark"},
            {"viewport": {"width": 390, "height": 800}},
        ):
            page = visit(query, reduced_motion="reduce", **options)
            page.wait_for_load_state("networkidle")
            page.evaluate(axe.read_text())
            found = page.evaluate("axe.run()")["violations"]
            serious = [each for each in found if each["impact"] in ("serious", "critical")]
            told = [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in serious]
            assert told == [], (query, options)


def test_a_phone_needs_no_sideways_scrolling(visit):
    page = settled(visit(CHOSEN, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True))
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_text("Filters", exact=True).first.tap()
        page.get_by_text("Under the hood").tap()
    expect(page.locator(".narrow").get_by_label("Movie")).to_be_hidden()


def test_the_first_load_is_small_and_the_second_smaller(visit):
    page = visit()
    page.wait_for_load_state("networkidle")
    sizes = "performance.getEntriesByType('resource').map((each) => [each.name, each.transferSize])"
    first = dict(page.evaluate(sizes))
    document = page.evaluate("performance.getEntriesByType('navigation')[0].transferSize")
    assert any(name.endswith(".js") for name in first) and any(name.endswith(".css") for name in first)
    assert sum(first.values()) + document < 200_000
    page.reload()
    page.wait_for_load_state("networkidle")
    again = {name: size for name, size in page.evaluate(sizes) if "/assets/" in name}
    assert set(again.values()) == {0}


def test_focus_goes_through_the_page_in_reading_order(visit):
    page = settled(visit("?like=spirited-away"))
    order = []
    for _ in range(7):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent"))
    assert order[:3] == ["Skip to the content", "simshard: start", "Find a title"]
    assert order[-2:] == ["Like Spirited Away", "Remove Spirited Away"]


def test_any_catalogue_works_without_titles_at_the_root(visit, cluster):
    page = visit(url=f"{cluster.server.url}/?like=7")
    expect(page.locator(".seed .name")).to_have_text("7")
    expect(page.locator(".card")).to_have_count(24)
    page.get_by_role("link", name="simshard: start").click()
    expect(page.get_by_text(f"{ITEMS} titles are ready.")).to_be_visible()


def test_the_documentation_asks_no_other_host(visit, server):
    page = visit()
    page.get_by_role("link", name="API").click()
    expect(page.get_by_text("/v1/recommend", exact=True)).to_be_visible()


def test_headers_forbid_what_the_page_does_not_need(server):
    answer = httpx.get(f"{server.url}/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert {name.lower(): value for name, value in guarded().items()}.items() <= dict(answer.headers).items()
    bare = httpx.get(server.url)
    assert (bare.status_code, httpx.URL(server.url).join(bare.headers["location"])) == (307, f"{server.url}/")
