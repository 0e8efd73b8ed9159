"""Completion with Tab in bash, zsh or fish: commands, options, and the names that the server knows."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from argcomplete.shell_integration import shellcode

from layerline.parsing import Parser


def main(argv: Sequence[str]) -> int:
    """``layerline completion bash | zsh | fish``.

    It prints what the shell has to read. bash: ``eval "$(layerline completion bash)"`` in ``~/.bashrc``; zsh: the same
    with ``zsh`` in ``~/.zshrc``, below ``compinit``; fish: ``layerline completion fish | source`` in
    ``~/.config/fish/config.fish``. Names come from the server (``LAYERLINE_SERVER``), which has a second to answer.
    """
    parser = Parser(prog="layerline completion", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    options = parser.parse_args(argv)
    print(shellcode(["layerline"], shell=options.shell))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
