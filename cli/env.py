"""`simshard env`: what the environment of a Ray node, or of a job that joins one, must hold."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from simshard.cli.output import reported_errors

# The commands of cluster.yaml that start Ray, but for the variables.
_PORTS = (
    "--node-manager-port=6380 --object-manager-port=6381 --runtime-env-agent-port=6382 --metrics-export-port=6383 "
    "--dashboard-agent-listen-port=6384 --dashboard-agent-grpc-port=6385 "
    "--min-worker-port=10002 --max-worker-port=19999 --include-log-monitor=false"
)
_STARTS = {
    "head_start_ray_commands": (
        f"RAY_enable_autoscaler_v2=0 ray start --head --node-ip-address=<HEAD_ADDRESS> --port=6379 {_PORTS} "
        "--include-dashboard=false --labels=simshard.role=head --autoscaling-config=~/ray_bootstrap_config.yaml"
    ),
    "worker_start_ray_commands": (
        f"RAY_gcs_rpc_server_reconnect_timeout_s=20 ray start --address=$RAY_HEAD_IP:6379 {_PORTS} "
        "--labels=simshard.role=worker"
    ),
}


def env(
    app: Annotated[
        str | None,
        typer.Option(help="Of a job that asks this application, run by a simshard serve of yours on this machine."),
    ] = None,
    yaml: Annotated[
        bool,
        typer.Option(
            "--yaml", help="As commands of a cluster.yaml that start Ray, for nodes on which all is where it is here."
        ),
    ] = False,
    make_token: Annotated[
        bool, typer.Option("--make-token", help="Make the token of the cluster, ~/.ray/auth_token, if there is none.")
    ] = False,
) -> None:
    """Print the export lines that a node needs before Ray starts there: eval "$(simshard env)".

    With --app, those that a second job needs to join the cluster of a running application.
    """
    from simshard.serve.launch.ray_environment import HAPROXY_FOLDER, of_node, write_token
    from simshard.shards.private_folders import private_folder
    from simshard.shards.ray_cluster import find, token_file

    if app is not None and (yaml or make_token):
        raise typer.BadParameter("--app is for a job that joins; --yaml and --make-token are for nodes")
    with reported_errors():
        if app is not None:
            variables = find(app).environment
        else:
            variables = of_node()
            if make_token:
                write_token()
            elif not token_file().is_file():
                typer.echo(
                    f"simshard: {token_file()}: no token yet; make one with simshard env --make-token, "
                    "and copy it to every node",
                    err=True,
                )
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    if yaml:
        # They stand for nodes where all is as here. Nobody else may make the folder of HAProxy first.
        own = private_folder()
        folders = (own.parent, own, own / HAPROXY_FOLDER)
        make = f"install -d -m 700 {shlex.join(map(str, folders))}"
        for name, start in _STARTS.items():
            typer.echo(f'{name}:\n  - ray stop\n  - |\n    set -e\n    ulimit -Sn "$(ulimit -Hn)"')
            typer.echo("".join(f"    {line}\n" for line in (make, *lines, start)), nl=False)
    else:
        typer.echo("\n".join(lines))
