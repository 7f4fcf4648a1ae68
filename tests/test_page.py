"""The page in a real Chromium, against a real server."""

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from simshard.serve.http.static_page import guarded
from tests.browser import Relay, Visit, chromium, npm_packages
from tests.conftest import ITEMS
from tests.server import Server, command, gcs_address, stop_all

ANIME = Path(__file__).resolve().parents[1] / "examples" / "anime.json"
MARKUP = '<img src=x onerror="window.hacked = 1"><b>Bold</b> & co'
CHOSEN = "?like=spirited-away&like=2*princess-mononoke&dislike=naruto"
QUESTION = {"positive": ["spirited-away", {"id": "princess-mononoke", "weight": 2}], "negative": ["naruto"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    items = json.loads(ANIME.read_text())
    items.append({"id": "x/<y>?&#", "title": MARKUP, "type": "TV", "year": 1999, "tags": ["<i>Sea</i>", "Drama"]})
    (folder / "items.json").write_text(json.dumps(items))
    subprocess.run(command("compute", folder / "items.json", "--store", folder / "store"), check=True)
    return folder / "store"


def joined(cluster, store, name, **env):
    options = ("--address", gcs_address(cluster.folder), "--port", cluster.server.port, "--redis", "off")
    return Server(store, *options, "--name", name, "--route-prefix", f"/{name}", env=env)


@pytest.fixture(scope="module")
def server(cluster, store):
    server = joined(cluster, store, "page")
    yield server
    stop_all(server)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser, server):
    """Visits of the page, which must ask no other host and complain of nothing."""
    visits = []

    def begin(query="", url=None, **options):
        visits.append(Visit(browser, url or f"{server.url}/{query}", **options))
        return visits[-1].page

    begin.visits = visits
    try:
        yield begin
        for each in visits:
            assert each.others() == set()
            assert each.faults == []
    finally:
        for each in visits:
            each.context.close()


def titles(page):
    return page.locator(".card h3").all_text_contents()


def asked(server, **question):
    """The titles that the API answers."""
    answer = httpx.post(f"{server.url}/v1/recommend", json={"limit": 24, **question}, timeout=30).raise_for_status()
    return [hit["payload"]["title"] for hit in answer.json()["hits"]]


def settled(page):
    """Wait until the hits are of what is chosen, and the names, which are asked for apart, have come."""
    expect(page.locator("section[aria-label=Hits]")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".seed .name").filter(has_text=re.compile("^[a-z]+(-[a-z]+)*$"))).to_have_count(0)
    return page


def chips(page):
    """The chosen titles, and whether each is liked, once all names have come."""
    settled(page)
    return [
        (chip.locator(".name").text_content(), chip.locator(".mark").get_attribute("aria-pressed") == "true")
        for chip in page.locator(".seed").all()
    ]


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


def test_cards_tell_of_each_seed_and_refine_at_once(visit, server):
    page = settled(visit(CHOSEN))
    expect(page.locator(".card")).to_have_count(24)
    assert chips(page) == [("Spirited Away", True), ("Princess Mononoke", True), ("Naruto", False)]
    first = page.locator(".card").first
    body = {**QUESTION, "limit": 1, "explain": True}
    (hit,) = httpx.post(f"{server.url}/v1/recommend", json=body, timeout=30).json()["hits"]
    lines = {line["id"]: f"{abs(line['contribution']):.3f}" for line in hit["explain"]}
    told = first.get_by_role("img").get_attribute("aria-label")
    assert told == (
        f"Score {hit['score']:.3f}: Spirited Away +{lines['spirited-away']}, "
        f"Princess Mononoke +{lines['princess-mononoke']}, Naruto −{lines['naruto']}"
    )
    for text in (
        hit["payload"]["title"],
        str(hit["payload"]["year"]),
        hit["payload"]["type"],
        *hit["payload"]["tags"][:3],
    ):
        expect(first).to_contain_text(text)
    expect(page.get_by_role("list", name="Colors of the bars").locator("li")).to_have_count(3)

    liked, disliked, hidden = titles(page)[:3]
    page.get_by_role("button", name=f"Like {liked}", exact=True).click()
    expect(page.locator(".seed")).to_have_count(4)
    expect(page.locator("h1")).to_be_focused()
    settled(page).get_by_role("button", name=f"Dislike {disliked}", exact=True).click()
    expect(page.locator(".seed")).to_have_count(5)
    assert chips(page)[3:] == [(liked, True), (disliked, False)]
    assert not {liked, disliked} & set(titles(settled(page)))
    page.get_by_role("button", name=f"Hide {hidden}", exact=True).click()
    expect(page.get_by_role("button", name=f"Hide {hidden}", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Show 1 hidden again").click()
    expect(page.get_by_role("button", name="Show 1 hidden again")).to_have_count(0)
    expect(page.locator("h1")).to_be_focused()  # as the button that had the focus is gone
    page.get_by_role("button", name=f"Like {disliked}", exact=True).click()  # in its chip: liked after all
    expect(page.locator(".seed.liked")).to_have_count(4)
    page.get_by_role("button", name=f"Remove {disliked}").click()
    expect(page.locator(".seed")).to_have_count(4)


def test_only_dislikes_are_answered_with_a_word(visit):
    page = visit("?dislike=naruto")
    expect(page.get_by_text("like at least one title")).to_be_visible()


def test_filters_are_made_from_the_attributes(visit, server):
    page = settled(visit(CHOSEN))
    filters = page.locator("aside .wide")
    expect(filters.locator("legend")).to_have_text(["type", "year", "episodes", "rating", "studio", "tags"])
    filters.get_by_label("Movie").check()
    filters.get_by_role("button", name="Fantasy: any").click()
    filters.get_by_role("button", name="Fantasy: wanted").click()
    filters.get_by_role("textbox", name="Find in tags").fill("dram")
    filters.get_by_role("textbox", name="Find in tags").press("Enter")
    least = filters.get_by_role("slider", name="Least year")
    least.focus()
    for _ in range(22):
        page.keyboard.press("ArrowRight")
    expect(filters.get_by_text("1985 – 2024")).to_be_visible()
    want = {
        "must": [
            {"key": "type", "match": {"value": "Movie"}},
            {"key": "tags", "match": {"value": "Drama"}},
            {"key": "year", "range": {"gte": 1985}},
        ],
        "must_not": [{"key": "tags", "match": {"value": "Fantasy"}}],
    }
    expected = asked(server, **QUESTION, filter=want)
    assert 0 < len(expected) < 24
    expect(page.get_by_role("status").filter(has_text=f"{len(expected)} hits for 3 titles")).to_be_visible()
    assert titles(settled(page)) == expected
    filters.get_by_role("slider", name="Least year").press("End")
    expect(page.get_by_text("Nothing passes these filters.")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    expect(page.locator(".card")).to_have_count(24)


def test_more_hits_follow_without_a_seam(visit, server):
    page = settled(visit(CHOSEN))
    page.get_by_role("button", name="24 more").click()
    expect(page.locator(".card")).to_have_count(48)
    expect(page.locator(".card").nth(24).locator("a")).to_be_focused()
    page.get_by_role("button", name="24 more").click()
    expect(page.locator(".card")).to_have_count(72)
    assert titles(page) == asked(server, **QUESTION, limit=72)
    page.get_by_label("Diversity").fill("0.5")
    expect(page.locator(".card")).to_have_count(24)
    assert titles(settled(page)) == asked(server, **QUESTION, diversity=0.5)
    page.get_by_role("button", name="24 more").click()
    expect(page.locator(".card")).to_have_count(48)
    assert titles(settled(page)) == asked(server, **QUESTION, diversity=0.5, limit=48)


def test_the_last_page_ends_and_one_of_a_snapshot_that_is_gone_begins_anew(visit, server):
    page = settled(visit("?like=naruto&is.type=Movie"))
    for shown in (48, 52):
        page.get_by_role("button", name="24 more").click()
        expect(page.locator(".card")).to_have_count(shown)
    expect(page.get_by_role("button", name="24 more")).to_have_count(0)
    page = settled(visit(CHOSEN))

    def gone(route):
        if "snapshot" in route.request.post_data_json:
            route.fulfill(status=409, json={"title": "Snapshot gone", "status": 409, "detail": "not open here"})
        else:
            route.continue_()

    page.route("**/v1/recommend", gone)
    with page.expect_response(lambda answer: answer.ok and answer.url.endswith("/v1/recommend")):
        page.get_by_role("button", name="24 more").click()
    expect(page.locator(".card")).to_have_count(24)
    expect(page.get_by_role("alert")).to_have_count(0)
    visit.visits[-1].faults.clear()  # the browser tells of the 409


def test_a_shared_link_restores_all_and_back_undoes(visit):
    page = settled(visit(f"{CHOSEN}&diversity=0.4&is.type=Movie&min.year=1980&not.tags=War&hood=1"))
    before = titles(page)
    page.get_by_role("slider", name="Weight of Naruto").fill("1.5")
    page.get_by_role("button", name=f"Like {before[0]}", exact=True).click()
    expect(page.locator(".seed")).to_have_count(4)
    after = titles(settled(page))
    again = settled(visit(url=page.url))
    assert chips(again) == chips(page)
    assert titles(again) == after
    expect(again.get_by_role("slider", name="Weight of Princess Mononoke")).to_have_value("2")
    expect(again.get_by_role("slider", name="Weight of Naruto")).to_have_value("1.5")
    expect(again.get_by_label("Diversity")).to_have_value("0.4")
    expect(again.locator("aside .wide").get_by_label("Movie")).to_be_checked()
    expect(again.get_by_role("heading", name="Shards")).to_be_visible()
    assert ("dislike", "1.5*naruto") in parse_qsl(urlsplit(page.url).query)
    page.go_back()
    expect(page.locator(".seed")).to_have_count(3)
    page.go_forward()
    expect(page.locator(".seed")).to_have_count(4)
    assert titles(settled(page)) == after


def test_a_link_of_another_catalogue_says_so(visit):
    page = visit("?like=no-such-title&like=spirited-away")
    expect(page.locator(".seed").first).to_contain_text("not in this catalogue")
    expect(page.locator(".card")).to_have_count(24)
    page.get_by_role("button", name="Remove Spirited Away").click()
    expect(page.get_by_role("alert")).to_contain_text("None of the liked titles is in this catalogue.")
    visit.visits[-1].faults.clear()  # the browser tells of the 404


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


def test_markup_in_titles_and_tags_is_inert(visit):
    page = visit()
    page.get_by_role("combobox").fill("img src")
    expect(page.get_by_role("option").first).to_contain_text(MARKUP)
    page.keyboard.press("Enter")
    expect(page.locator(".seed .name")).to_have_text(MARKUP)
    expect(settled(page).locator("h1")).to_contain_text(MARKUP)
    again = settled(visit("?like=naruto&has.tags=%3Ci%3ESea%3C%2Fi%3E"))
    expect(again.locator(".card h3")).to_have_text(MARKUP)
    expect(again.locator(".card .tags")).to_contain_text("<i>Sea</i>")
    again.locator(".card h3 a").click()
    expect(again.locator(".seed .name")).to_have_text(MARKUP)
    again.get_by_role("button", name="Map").click()
    expect(again.locator(".node.liked")).to_have_count(1)
    for each in (page, again):
        assert each.locator("img[src=x]").count() == 0
        assert each.evaluate("window.hacked") is None


def test_the_map_is_walked_by_click_and_key(visit):
    page = visit(f"{CHOSEN}&view=map")
    expect(page.locator(".node.liked")).to_have_count(2)
    expect(page.locator(".node.disliked")).to_have_count(1)
    expect(page.locator(".bonds line").nth(10)).to_be_attached()
    page.wait_for_load_state("networkidle")  # all neighborhoods are there
    widths = {float(line.get_attribute("stroke-width")) for line in page.locator(".bonds line").all()}
    assert min(widths) == 1 and max(widths) == 7 and len(widths) > 5
    page.locator("svg[role=group]").evaluate("svg => { window.drawn = svg }")
    page.wait_for_timeout(1500)  # until the drawing rests
    page.get_by_role("button", name="My Neighbor Totoro").click()
    expect(page.locator(".looked b")).to_have_text("My Neighbor Totoro")
    expect(page.locator(".node.focus title")).to_have_text("My Neighbor Totoro, visited")
    node = page.locator(".node.near").first
    name = node.locator("title").text_content()
    node.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".node.focus")).to_be_focused()
    assert page.locator("svg[role=group]").evaluate("svg => svg === window.drawn")  # moved on, not drawn anew
    expect(page.locator(".looked b")).to_have_text(name)
    expect(page.get_by_role("list", name="The way here").locator("li")).to_have_text(["My Neighbor Totoro", name])
    page.get_by_role("button", name="Like", exact=True).click()
    expect(page.locator(".seed")).to_have_count(4)
    page.get_by_role("button", name="Back to the chosen").click()
    expect(page.locator(".trail")).to_have_count(0)
    page.go_back()
    expect(page.locator(".trail li")).to_have_count(2)


def test_the_map_rests_where_motion_is_unwanted(visit):
    page = visit(f"{CHOSEN}&view=map", reduced_motion="reduce")
    expect(page.locator(".node").nth(10)).to_be_attached()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(200)  # until its width is known
    where = "[...document.querySelectorAll('.node')].map((node) => node.getAttribute('transform')).join()"
    before = page.evaluate(where)
    page.wait_for_timeout(300)
    assert page.evaluate(where) == before


def test_under_the_hood_tells_how_the_answer_came_about(visit, server):
    health = httpx.get(f"{server.url}/healthz", timeout=30).json()
    page = settled(visit("?like=cowboy-bebop&like=trigun&max.rating=8.9&hood=1"))
    answer = page.get_by_role("region", name="The last answer")
    expect(answer).to_contain_text("miss: computed now, and kept")
    for stage in ("search", "encode", "network, proxy, HTTP"):
        expect(answer).to_contain_text(stage)
    shards = page.get_by_role("region", name="Shards")
    expect(shards.locator("tbody tr")).to_have_count(len(health["shards"]))
    for shard in health["shards"]:
        row = shards.locator("tbody tr").nth(shard["shard"])
        expect(row).to_contain_text(f"{shard['row_start']} – {shard['row_stop'] - 1}")
        expect(row).to_contain_text(shard["host"])
        expect(row).to_contain_text("ok")
    expect(answer).to_contain_text(re.compile(r"shards asked\d(, \d)? \(there are 2\)"))
    snapshots = page.get_by_role("region", name="Snapshots")
    expect(snapshots).to_contain_text(health["snapshot"])
    expect(snapshots).to_contain_text("serving")
    expect(answer.get_by_label("The same request for a shell")).to_have_value(
        re.compile(f"curl '{server.url}/v1/recommend'")
    )
    page.reload()
    expect(answer).to_contain_text("memory: kept by this replica")
    expect(answer).to_contain_text("none: the answer was kept")


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
