"""What the page says when the server is down, asks for a key, or answers in part."""

from playwright.sync_api import expect

from tests.support.browser import Relay
from tests.support.page import CHOSEN, chips, joined, settled, titles
from tests.support.server import stop_all


def test_a_server_that_is_down_is_told_and_awaited(visit, server):
    relay = Relay(server.port)
    try:
        page = settled(visit(url=f"http://127.0.0.1:{relay.port}/page/{CHOSEN}"))
        first = titles(page)[0]
        relay.close()
        page.get_by_role("button", name=f"Like {first}", exact=True).click()
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("The server does not answer.")
        expect(alert).to_contain_text(f"127.0.0.1:{relay.port}")
        expect(page.locator(".card").first).to_be_visible()  # what was there stays
        alert.get_by_role("button", name="Try now").click()
        expect(alert).to_be_visible()
        relay.open()
        expect(alert).to_have_count(0)
        relay.close()
        page.get_by_role("button", name="24 more").click()
        expect(alert).to_contain_text("The server does not answer.")
        relay.open()
        expect(page.locator(".card")).to_have_count(48)
        expect(alert).to_have_count(0)
        assert chips(page)[-1] == (first, True)
        assert first not in titles(settled(page))
        visit.visits[-1].faults.clear()  # the browser tells of refused connections
    finally:
        relay.close()


def test_a_server_that_is_down_at_first_is_awaited_too(visit, server):
    relay = Relay(server.port)
    try:
        page = visit(url=f"http://127.0.0.1:{relay.port}/page/")
        starting = {"title": "Not ready", "status": 503, "detail": "no snapshot is open yet"}
        page.route("**/v1/**", lambda route: route.fulfill(status=503, json=starting))
        page.route("**/healthz", lambda route: route.fulfill(status=503, json={"problem": starting["detail"]}))
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text("The server cannot answer just now.")
        expect(page.get_by_role("alert")).to_contain_text("It says: no snapshot is open yet.")
        page.unroute_all()
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_role("button", name="5 Centimeters per Second")).to_be_visible()
        visit.visits[-1].faults.clear()
    finally:
        relay.close()


def test_a_partial_answer_is_told(visit):
    page = visit()

    def partial(route):
        answer = route.fetch().json()
        route.fulfill(json={**answer, "partial": True, "failed_shards": [1]})

    page.route("**/v1/recommend", partial)
    page.goto(page.url + CHOSEN)
    expect(page.get_by_text("Some hits may be missing.")).to_be_visible()
    expect(page.get_by_text("Shard 1 did not answer")).to_be_visible()
    expect(page.locator(".card")).to_have_count(24)
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Some hits may be missing.")).to_have_count(0)


def test_a_server_with_a_key_asks_for_it(visit, cluster, store):
    server = joined(cluster, store, "locked", SIMSHARD_API_KEY="open-sesame")
    try:
        page = visit(url=f"{server.url}/{CHOSEN}")
        for key, told in {"wrong": "asks for its API key", "open-sesame": "does not take this key"}.items():
            expect(page.get_by_role("alert")).to_contain_text(told)
            assert page.locator(".card h3").count() == 0
            page.get_by_label("API key").fill("“quoted”")
            expect(page.get_by_role("button", name="Go on")).to_be_disabled()
            page.get_by_label("API key").fill(f" {key} ")
            page.get_by_role("button", name="Go on").click()
        expect(page.locator(".card h3")).to_have_count(24)
        expect(page.get_by_role("alert")).to_have_count(0)
        assert "sesame" not in page.url
        visit.visits[-1].faults.clear()  # the browser tells of each 401
    finally:
        stop_all(server)
