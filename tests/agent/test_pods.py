"""Names of pods come from the links of the node's log folder."""

from __future__ import annotations

from pathlib import Path

from layerline_agent.containers import Container
from layerline_agent.machine import Machine
from layerline_agent.pods import FOLDER, names

ID = "5" * 64


def test_links_name_pod_namespace_and_container(tmp_path: Path) -> None:
    """Also names with hyphens and dots; what is no such link is left out, and so is a folder that is not there."""
    machine = Machine(str(tmp_path))
    assert names(machine) == {}
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for name in (f"web-7d9f.x_shop-eu_app-1-{ID}.log", "notes.txt", f"A_b_c-{ID}.log", f"a_b_c-{ID[1:]}.log"):
        (folder / name).touch()
    said = {"k8s.pod.name": "web-7d9f.x", "k8s.namespace.name": "shop-eu", "k8s.container.name": "app-1"}
    assert names(machine) == {ID: said}
    assert Container(ID, runtime="containerd", pod=said).attributes == {
        "container.id": ID, "container.runtime": "containerd", **said,
    }  # fmt: skip
