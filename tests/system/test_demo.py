"""`simshard demo` as a newcomer runs it: what it prints is tried."""

import json
import shlex
import signal
import subprocess

import httpx
import pytest

from simshard.serve.launch.ports import free_port
from simshard.shards.store import Store
from tests.support.command import command


@pytest.mark.last
def test_the_demo_prints_lines_that_work(tmp_path):
    port = free_port()
    arguments = ("demo", "--folder", tmp_path / "demo", "--port", port)
    demo = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(demo.stdout.readline())
            assert lines[-1], demo.stderr.read()
        assert any(line.startswith(f"http://127.0.0.1:{port}  ") for line in lines)
        answers = []
        for line in lines:
            words = shlex.split(line)
            if words[:1] == ["curl"]:
                url = words[1]
                if "-d" in words:
                    answers.append(httpx.post(url, json=json.loads(words[words.index("-d") + 1]), timeout=30))
                else:
                    answers.append(httpx.get(url, timeout=30))
        assert [answer.status_code for answer in answers] == [200] * 4
        found, similar, recommended, score = (answer.json() for answer in answers)
        assert [item["title"] for item in found["items"]] == ["Spirited Away"]
        assert similar["hits"][0]["payload"]["title"] == "Cowboy Bebop: The Movie"
        assert recommended["hits"][0]["payload"]["studio"] == "Studio Ghibli"
        assert score["score"] > 0.7
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
        assert len(Store(tmp_path / "demo").names()) == 1
    finally:
        if demo.poll() is None:
            demo.terminate()
        demo.communicate(timeout=60)
