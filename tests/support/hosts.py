"""Several hosts on this machine, made out of namespaces, each with its network, processes, home, temporary files.

They share this machine's other files, cores and memory, lie on one bridge, and reach no other network. Root, Debian's
iproute2 and, for `ray up`, openssh-server and rsync are needed.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

NETWORK = "10.79.0"
BRIDGE = "simshard-br"
HERE = f"{NETWORK}.254"  # this machine, on the bridge
_END_TIMEOUT = 5.0


def cannot():
    """Why hosts cannot be made here; None where they can."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "network namespaces need Linux and root"
    missing = [name for name in ("ip", "nsenter", "unshare", "mount") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: iproute2, util-linux)"
    made = subprocess.run(["ip", "netns", "add", "simshard-try"], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", "simshard-try"], capture_output=True, check=False)
    return None if made.returncode == 0 else f"network namespaces cannot be made: {made.stderr.strip()}"


def cannot_ssh():
    """Why hosts cannot have SSH servers here; None where they can."""
    missing = [name for name in ("sshd", "ssh", "ssh-keygen", "rsync") if not _which(name)]
    return f"not installed: {', '.join(missing)} (Debian: openssh-server, rsync)" if missing else None


def _which(name):
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _do(*words):
    subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)


class Host:
    """One host: `address`, and `init`, its process 1, by its number on this machine."""

    def __init__(self, number, folder, home, ssh):
        self.number, self.address = number, f"{NETWORK}.{number}"
        self.name = f"simshard-{number}"
        self.folder = folder / self.name
        for name in ("home", "ray", "run"):
            (self.folder / name).mkdir(parents=True)
        self.home = home
        (self.folder / "home" / ".profile").write_text(f'PATH="{Path(sys.base_prefix) / "bin"}:$PATH"\n')
        outer, inner = f"simshard-v{number}", f"simshard-e{number}"
        _do("ip", "netns", "add", self.name)
        _do("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        _do("ip", "link", "set", inner, "netns", self.name)
        _do("ip", "link", "set", outer, "master", BRIDGE, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "set", inner, "name", "eth0"),
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            _do("ip", "-n", self.name, *words)
        self._holder = self._start(folder, ssh)
        (self.init,) = [child.pid for child in psutil.Process(self._holder.pid).children()]

    def _start(self, folder, ssh):
        """The first process of the host, in its namespaces: an SSH server, or one that sleeps."""
        passwd = self.folder / "passwd"
        lines = Path("/etc/passwd").read_text().splitlines()
        words = [line.split(":") for line in lines]
        passwd.write_text(
            "".join(":".join([*w[:5], str(self.home), "/bin/bash"]) + "\n" for w in words if w[0] == "root")
        )
        with open(passwd, "a") as file:
            file.writelines(f"{line}\n" for line in lines if not line.startswith("root:"))
        runs = Path("/tmp") / f"simshard-{os.getuid()}"
        for place in (Path("/tmp/ray"), runs, self.home):
            place.mkdir(mode=0o700, exist_ok=True, parents=True)
        (self.folder / "run").chmod(0o700)
        binds = {"home": self.home, "ray": "/tmp/ray", "run": runs, "passwd": "/etc/passwd"}
        script = [f"hostname {self.name}", "mount --make-rprivate /"]
        script += [f"mount --bind {self.folder / name} {place}" for name, place in binds.items()]
        os.mkfifo(self.folder / "never")  # a shell that reads collects what others leave behind, as process 1 must
        program = ["bash", "-c", f"exec 3<>{self.folder}/never; read -u 3"]
        if ssh:
            Path("/run/sshd").mkdir(exist_ok=True)
            options = {
                "ListenAddress": self.address,
                "HostKey": folder / "hostkey",
                "AuthorizedKeysFile": folder / "authorized",
                "StrictModes": "no",
                "PermitRootLogin": "yes",
                "UsePAM": "no",
                "PidFile": "none",
                "MaxStartups": "100",
            }
            program = [_which("sshd"), "-D", "-e", "-f", "/dev/null"]
            program += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        script.append(f"touch {self.folder}/up && exec {shlex.join(map(str, program))}")
        unshare = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        with open(self.folder / "init.log", "wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *unshare, "sh", "-ec", " && ".join(script)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 10
        while not (self.folder / "up").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "init.log").read_text())
            time.sleep(0.02)
        return process

    def words(self, *command):
        """A command line that runs a command on this host."""
        enter = ["nsenter", "-t", self.init, "-n", "-m", "-u", "-p", "--", "env", f"HOME={self.home}"]
        return list(map(str, [*enter, *command]))

    def run(self, *command, check=True, timeout=180, env=None):
        """Run a command on this host to its end, with only these variables more; what it wrote."""
        environment = {**_environment(), **(env or {})}
        done = subprocess.run(
            self.words(*command), capture_output=True, text=True, check=False, timeout=timeout, env=environment
        )
        if check and done.returncode:
            raise RuntimeError(f"{self.name}: {shlex.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *command, env=None, **options):
        """Start a command on this host."""
        environment = {**_environment(), **(env or {})}
        return subprocess.Popen(self.words(*command), text=True, env=environment, start_new_session=True, **options)

    def pids(self):
        """The processes that run on this host, but for the one that holds it."""
        told = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False).stdout
        return [int(word) for word in told.split() if int(word) not in (self.init, self._holder.pid)]

    def processes(self, named=""):
        """Those with this in their command lines."""
        found = []
        for pid in self.pids():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                if named in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def wait(self):
        """Wait for its end."""
        self._holder.wait(_END_TIMEOUT)

    def kill(self):
        """End everything on it at once: a node that is lost."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut(self):
        """Take it off the network."""
        _do("ip", "link", "set", f"simshard-v{self.number}", "down")

    def heal(self):
        """Bring it back onto the network."""
        _do("ip", "link", "set", f"simshard-v{self.number}", "up")


def terminate(process):
    """Send SIGTERM to what `Host.start` started: a child of the program that enters the host."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            child.terminate()


def _environment():
    """This process's variables, without those that tell another Ray or simshard what to do."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SIMSHARD_", "COVERAGE"))}


class Hosts:
    """Hosts 1 to `count`; `key` is the SSH key that they let in as root. Ended and removed by `close`."""

    def __init__(self, folder, count=3, ssh=False):
        remove()
        self.folder = folder
        self.key = folder / "id"
        home = folder / "home"
        home.mkdir()
        if ssh:
            for name in ("id", "hostkey"):
                _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
            shutil.copy(folder / "id.pub", folder / "authorized")
        _do("ip", "link", "add", BRIDGE, "type", "bridge")
        _do("ip", "addr", "add", f"{HERE}/24", "dev", BRIDGE)
        _do("ip", "link", "set", BRIDGE, "up")
        self.hosts = []
        try:
            for number in range(1, count + 1):
                self.hosts.append(Host(number, folder, home, ssh))
        except BaseException:
            self.close()
            raise

    def __iter__(self):
        return iter(self.hosts)

    def __getitem__(self, index):
        return self.hosts[index]

    def close(self):
        remove()
        for host in self.hosts:
            host.wait()


def remove():
    """End everything on hosts of this or an earlier run, and remove them."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("simshard-")]
    for number in (signal.SIGTERM, signal.SIGKILL):
        found = []
        for name in names:
            told = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
            for pid in map(int, told.split()):
                with suppress(psutil.Error):
                    found.append(psutil.Process(pid))
                    found[-1].send_signal(number)
        psutil.wait_procs(found, _END_TIMEOUT)
    for name in names:
        _do("ip", "netns", "del", name)
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)
