"""Hits: what cards tell, filters, more of them, and links that restore all."""

from urllib.parse import parse_qsl, urlsplit

import httpx
from playwright.sync_api import expect

from tests.support.page import CHOSEN, MARKUP, QUESTION, asked, chips, settled, titles


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
