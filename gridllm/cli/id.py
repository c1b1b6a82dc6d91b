"""``gridllm id``: who this machine is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show_id(
    identity: Annotated[Path | None, typer.Option(help="Key file; the default is in the data folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print this machine's peer id and public key; the key is made on first use.

    Example: gridllm id --json
    """
    from gridllm.cli.show import facts_text, print_json, stdout
    from gridllm.identity.keys import load_or_create
    from gridllm.settings import load_settings

    mine = load_or_create(load_settings(identity=identity).identity_path)
    facts = {"peer": mine.peer, "public_key": mine.public_key.hex(), "key_file": str(mine.path)}
    if as_json:
        print_json(facts)
    else:
        named = {"Peer id": facts["peer"], "Public key": facts["public_key"], "Key file": facts["key_file"]}
        stdout().print(facts_text(named))
