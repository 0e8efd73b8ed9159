"""What the agent says of the machine itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerline_agent.machine import Machine

NITRO = {"sys_vendor": "Amazon EC2", "board_asset_tag": "i-0af01c0123456789a", "product_name": "t3.micro"}


@pytest.mark.parametrize(
    ("firmware", "told"),
    [
        pytest.param(
            NITRO,
            {"cloud.provider": "aws", "layerline.instance.id": "i-0af01c0123456789a", "host.type": "t3.micro"},
            id="EC2 on Nitro",
        ),
        pytest.param(NITRO | {"board_asset_tag": ""}, {}, id="EC2 on Xen has no id there"),
        pytest.param(NITRO | {"sys_vendor": "QEMU"}, {}, id="somebody else's asset tag"),
        pytest.param({}, {}, id="no firmware that says anything"),
    ],
)
def test_the_instance_by_its_firmware(firmware: dict[str, str], told: dict[str, str], tmp_path: Path) -> None:
    """The id by which CloudWatch names the machine comes from its firmware, where that is an EC2 instance's."""
    folder = tmp_path / "sys/devices/virtual/dmi/id"
    folder.mkdir(parents=True)
    for name, text in firmware.items():
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
    assert Machine(str(tmp_path)).instance == told
