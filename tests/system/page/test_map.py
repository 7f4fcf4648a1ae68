"""The map, and what is under the hood."""

import re

import httpx
from playwright.sync_api import expect

from tests.support.page import CHOSEN, settled


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
