"""Whether the Docker Engine answers: it tells names, images, labels, starts and ends of containers."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket

from layerline.doctor import ADVICE, OK, PATIENCE_S, PROBLEM, UNKNOWN, Check, Context, Finding

SOCKET = "/var/run/docker.sock"


class _Connection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Reach the socket. OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


def look(context: Context) -> Finding:
    """``GET /version`` at DOCKER_HOST, else at the usual socket."""
    named = context.environ.get("DOCKER_HOST", "")
    if named.startswith(("tcp://", "ssh://")):
        return Finding(UNKNOWN, f"DOCKER_HOST is {named}: only a local socket is looked at")
    path = named.removeprefix("unix://") or SOCKET
    try:
        connection = _Connection(path)
        connection.request("GET", "/version")
        answer = connection.getresponse()
        version = str(json.loads(answer.read(65_536))["Version"])
        connection.close()
    except FileNotFoundError:
        if named:
            return Finding(PROBLEM, f"there is no socket {path}", "set DOCKER_HOST to the engine's socket, or unset it")
        return Finding(
            ADVICE,
            f"no Docker Engine at {path}: containers are found by their cgroups, without names, images and events",
            "in a container: -v /var/run/docker.sock:/var/run/docker.sock; where there is no Docker, nothing",
        )
    except PermissionError:
        cure = "run the agent as root, or as a user of the group docker: usermod -aG docker USER"
        return Finding(PROBLEM, f"{path} may not be opened by this user", cure)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as problem:
        cure = "see whether it runs: systemctl status docker"
        return Finding(PROBLEM, f"the engine at {path} does not answer: {type(problem).__name__}: {problem}", cure)
    if importlib.util.find_spec("docker") is None:
        return Finding(
            OK, f"Engine {version} answers at {path}; to read its containers: pip install 'layerline[agent]'"
        )
    return Finding(OK, f"Engine {version} answers at {path}")


CHECK = Check(order=20, title="Docker", look=look)
