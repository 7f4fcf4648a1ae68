"""The floor: an empty Ray Serve deployment, set up by simshard's own code, so that no setting of Ray's can differ.

`python -m benchmarks.floor SAMPLE.json PORT REPLICAS` serves until a signal comes. The sample holds the headers and the
body of an answer of simshard's; every request gets just that.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from pathlib import Path
from typing import Any

from simshard.serve.launch.ray_start import OwnCluster
from simshard.serve.launch.run_folder import RunFolder
from simshard.serve.settings import Settings

# What stands before or around an application adds these to its answers.
ADDED = ("date", "server", "x-request-id", "connection", "transfer-encoding")


def deployment(headers: list[tuple[bytes, bytes]], body: bytes) -> type:
    """A class for simshard's application that answers with these headers and this body."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            return
        while scope["method"] == "POST" and (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    class Empty:
        async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
            gc.collect()
            gc.freeze()  # as simshard's replicas do

        def __serve_build_asgi_app__(self) -> Any:
            return answer

    return Empty


def main(sample: Path, port: int, replicas: int) -> None:
    """Start Ray and the deployment, print the address, wait for a signal, end everything."""
    told = json.loads(sample.read_text())
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in told["headers"] if name not in ADDED
    ]

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def catch(handler: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handler)

    catch(interrupt)
    folder = RunFolder()
    cluster = None
    try:
        cluster = OwnCluster(folder.path, "127.0.0.1")
        catch(interrupt)  # Ray put its own in place
        from ray import serve

        from simshard.serve import app

        app.Ingress = deployment(headers, told["body"].encode())
        settings = Settings(store="none", name="floor", replicas=replicas)
        serve.start(http_options=app.http_options("127.0.0.1", port))
        serve.run(app.application(settings), name="floor", route_prefix="/")
        print(f"http://127.0.0.1:{port}", flush=True)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        catch(signal.SIG_IGN)
        if cluster is not None:
            cluster.close()
        folder.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
