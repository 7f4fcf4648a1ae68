"""The page as a person uses it: what is chosen, and which titles are shown."""

import re

import httpx
from playwright.sync_api import expect

from tests.support.server import Server, gcs_address

MARKUP = '<img src=x onerror="window.hacked = 1"><b>Bold</b> & co'
CHOSEN = "?like=spirited-away&like=2*princess-mononoke&dislike=naruto"
QUESTION = {"positive": ["spirited-away", {"id": "princess-mononoke", "weight": 2}], "negative": ["naruto"]}


def joined(cluster, store, name, **env):
    options = ("--address", gcs_address(cluster.folder), "--port", cluster.server.port, "--redis", "off")
    return Server(store, *options, "--name", name, "--route-prefix", f"/{name}", env=env)


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
