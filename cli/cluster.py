"""`simshard cluster check`: whether a file for Ray's cluster launcher can be used."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from simshard.cli.output import fail

app = typer.Typer(no_args_is_help=True, help="Files for Ray's cluster launcher (ray up).")

_PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]*>")


@app.callback()
def _group() -> None:
    """Keep `check` a command of its own."""


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A cluster.yaml.")] = Path("cluster.yaml")) -> None:
    """Check a file for `ray up`: placeholders that are left, Ray's schema, and files that it is to copy."""
    import yaml

    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{file}: cannot be read ({error.strerror})")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        fail(f"{file}: not YAML ({' '.join(str(error).split())})")
    if not isinstance(config, dict):
        fail(f"{file}: a mapping is needed, such as the cluster.yaml of simshard")
    left = [f"{found} ({where})" for where, text in _texts(config, "") for found in _PLACEHOLDER.findall(text)]
    if left:
        fail(f"{file}: replace these placeholders: {', '.join(left)}")
    _check_schema(file, config)
    missing = [source for source in _copied(config) if not Path(source).expanduser().exists()]
    if missing:
        fail(f"{file}: not there: {', '.join(missing)}; see the steps at the top of the file")
    token = Path("~/.ray/auth_token").expanduser()
    if (
        str(token) in map(str, (Path(source).expanduser() for source in _copied(config)))
        and token.stat().st_mode & 0o77
    ):
        fail(f"{token}: others can read it, and with it run code on the cluster; chmod 600 {token}")
    typer.echo(f"{file}: can be used; start the cluster with: ray up {file}")


def _texts(value: Any, where: str) -> list[tuple[str, str]]:
    """Every text in a document, with its place."""
    if isinstance(value, dict):
        return [text for key, each in value.items() for text in _texts(each, f"{where}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [text for i, each in enumerate(value) for text in _texts(each, f"{where}[{i}]")]
    return [(where, value)] if isinstance(value, str) else []


def _check_schema(file: Path, config: dict[str, Any]) -> None:
    """Exit with one sentence where Ray's launcher would refuse the file."""
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    told = io.StringIO()  # Ray prints what it finds, and ends the process
    try:
        with redirect_stdout(told), redirect_stderr(told):
            validate_config(prepare_config(config))
    except (jsonschema.ValidationError, ValueError, RuntimeError) as error:
        place = ".".join(map(str, getattr(error, "absolute_path", ())))
        reason = str(getattr(error, "message", error)).splitlines()[0]
        fail(f"{file}: {f'{place}: ' if place else ''}{reason}")
    except (SystemExit, click.ClickException) as error:
        fail(f"{file}: {' '.join(told.getvalue().split()) or error}")
    except (KeyError, TypeError, AttributeError) as error:  # it reads some members before it checks the schema
        fail(f"{file}: the launcher cannot read it ({type(error).__name__}: {error})")


def _copied(config: dict[str, Any]) -> list[str]:
    """Files of this machine that the launcher uses."""
    key = config.get("auth", {}).get("ssh_private_key")
    return [*([key] if key else []), *config.get("file_mounts", {}).values()]
