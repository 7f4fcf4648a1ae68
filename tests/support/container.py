"""The steps of a Dockerfile, one by one, without a container engine, and its command, run as an engine runs it.

A stage's file system is this machine's, under an overlay that takes what is written. The steps run in it as root, the
command as the user of the file, as process 1 of namespaces of its own. Linux and root are needed.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

NAMESPACES = ("--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--kill-child")


def cannot():
    """Why steps cannot be run here; None where they can."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "an overlay and namespaces need Linux and root"
    script = "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/m && mount -t overlay none -o "
    script += "lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/m"
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no overlay can be made: {tried.stderr.strip()}"


def instructions(path):
    """The instructions of a Dockerfile: (name, rest) each, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


class Stage:
    """One stage: an overlay at `root`, and what its instructions set."""

    def __init__(self, folder):
        self.root = folder / "root"
        for name in ("root", "upper", "work"):
            (folder / name).mkdir(parents=True)
        options = f"lowerdir=/,upperdir={folder / 'upper'},workdir={folder / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "none", "-o", options, self.root], check=True)
        self.environment = {"PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
        self.user = "0:0"
        self.entrypoint, self.command = [], []
        for place in Path(sys.base_prefix).parents:  # the image's Python is for everybody
            (self.root / place.relative_to("/")).chmod(0o755)
        for name in ("bin/ps", "usr/bin/ps"):  # small images have none
            (self.root / name).unlink(missing_ok=True)

    def close(self):
        subprocess.run(["umount", "-l", self.root], check=True)

    def run(self, line):
        """Run a RUN instruction. Raises CalledProcessError."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        chroot = ["chroot", str(self.root), "env", "-i", "HOME=/root", *variables, "sh", "-ec", line]
        script = f"mount -t proc proc {self.root}/proc && exec {shlex.join(chroot)}"
        subprocess.run(["unshare", *NAMESPACES, "sh", "-ec", script], check=True, timeout=600)


class Image:
    """A Dockerfile whose steps were run; `start` runs what its image would."""

    def __init__(self, path, context, folder):
        self.stages = {}
        self._folder = folder
        stage = None
        for name, rest in instructions(path):
            words = rest.split()
            if name == "FROM":
                stage = Stage(folder / f"stage{len(self.stages)}")
                self.stages[words[2] if words[1:2] == ["AS"] else "last"] = stage
            elif name == "COPY":
                source, target = words[-2:]
                given = next((word for word in words if word.startswith("--from=")), None)
                origin = self.stages[given.partition("=")[2]].root if given else context
                place = stage.root / target.lstrip("/")
                found = origin / source.lstrip("/")
                if found.is_dir():
                    shutil.copytree(found, place, symlinks=True)
                else:
                    shutil.copy(found, place)
            elif name == "RUN":
                stage.run(rest)
            elif name == "ENV":
                stage.environment |= dict(word.split("=", 1) for word in shlex.split(rest))
            elif name == "USER":
                stage.user = rest
            elif name in ("ENTRYPOINT", "CMD"):
                setattr(stage, "entrypoint" if name == "ENTRYPOINT" else "command", json.loads(rest))
            else:
                assert name in ("ARG", "EXPOSE"), name
        self.stage = stage

    def start(self, *arguments, mounts=(), environment=(), shared_memory="64m"):
        """Run the command as a container: read-only but for `/run/simshard`, as the image's user, as process 1."""
        stage = self.stage
        root = shlex.quote(str(stage.root))
        script = ["mount --make-rprivate /", f"mount --bind {root} {root}", f"mount -o remount,bind,ro {root}"]
        script += [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev", "ip link set lo up"]
        script += [f"mount -t tmpfs -o mode=1777,size={shared_memory} none {root}/dev/shm"]
        script += [f"mount -t tmpfs -o mode=1777 none {root}/run/simshard"]
        for source, target in mounts:
            (stage.root / target.lstrip("/")).mkdir(exist_ok=True)
            script += [f"mount --bind {source} {root}{target}", f"mount -o remount,bind,ro {root}{target}"]
        variables = {**stage.environment, "HOME": "/nonexistent", **dict(environment)}
        words = ["chroot", f"--userspec={stage.user}", str(stage.root), "env", "-i"]
        words += [f"{name}={value}" for name, value in variables.items()]
        words += stage.entrypoint + (list(arguments) or stage.command)
        script += [f"exec {shlex.join(words)}"]
        process = subprocess.Popen(
            ["unshare", *NAMESPACES, "sh", "-ec", " && ".join(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return Container(process)

    def close(self):
        for stage in self.stages.values():
            stage.close()


class Container:
    """What runs: `first` is the number of its process 1 on this machine."""

    def __init__(self, process):
        self.process = process
        self.line = process.stdout.readline()
        if not self.line:
            raise AssertionError(process.communicate()[1])
        (self.first,) = [child.pid for child in psutil.Process(process.pid).children()]

    def ask(self, *words):
        """What `curl` answers inside."""
        command = ["nsenter", "-t", self.first, "-n", "curl", "-sS", "-m", "30", *words]
        return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout

    def processes(self):
        return psutil.Process(self.first).children(recursive=True)

    def stop(self):
        """End it as an engine does; its exit code, the seconds it took, and what it wrote to stderr."""
        begun = time.monotonic()
        os.kill(self.first, signal.SIGTERM)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, time.monotonic() - begun, errors
