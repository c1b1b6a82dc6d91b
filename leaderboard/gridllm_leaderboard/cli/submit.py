"""``gridllm leaderboard submit``: an author brings a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridllm_leaderboard.cli.asking import GridOption, JsonOption

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.ledger.outbox import Outbox
    from gridllm.models.manifest import Manifest
    from gridllm_leaderboard.cli.submit_view import SubmitView
    from gridllm_leaderboard.messages import SubmissionView
    from gridllm_leaderboard.submitting.author import Words


def submit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder or Hub id.")],
    name: Annotated[str, typer.Option(help="Its name on the leaderboard; it must not be taken.")],
    message: Annotated[str, typer.Option(help="What is new about it, in a sentence or two.")],
    base: Annotated[
        str | None, typer.Option(metavar="ROOT", help="Root of the model it was made from, if any.")
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option("--license", help="Licence, such as Apache-2.0; the default is what its README.md says."),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="The grid may serve it; otherwise it is only ranked.")
    ] = True,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return once its files are uploaded; run it again to pay the fee.")
    ] = False,
    identity: Annotated[Path | None, typer.Option(help="Key file; the default is in the data folder.")] = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a model to be graded: check it, sign the submission, upload its files, pay the fee.

    Others grade it on items that nobody has seen. You must have contributed to the grid, and pay the fee that the rules
    set. If anything breaks, run the same command again: it resumes, and pays only once.

    Example: gridllm leaderboard submit ./my-model --name my-model --message "Trained on more sums"
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.credit import outbox_of
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, stdout
    from gridllm.cli.work import work
    from gridllm.models.files import find_model
    from gridllm.settings import load_settings
    from gridllm_leaderboard.cli.submit_view import SubmitView, submit_json
    from gridllm_leaderboard.submitting.author import Words
    from gridllm_leaderboard.submitting.licence import fetch_card, licence_of

    settings = load_settings(identity=identity)
    pins = Pins(settings.data_dir)
    signed = pins.current(grid)
    outbox = outbox_of(settings, signed, pins)
    folder = find_model(model)
    if license_ is None:
        fetch_card(model, folder)
    words = Words(name, message, licence_of(folder, license_), base, serve)
    with work("bytes") as working:
        shown = SubmitView(working)
        manifest = _checked(signed, outbox, folder, words, shown)
        view = run_async(_submit(signed, pins, outbox, folder, manifest, words, shown, wait=not no_wait))
    if as_json:
        print_json(submit_json(view, shown))
        return
    stdout().print(view.id, markup=False)


def _checked(signed: SignedCharter, outbox: Outbox, folder: Path, words: Words, shown: SubmitView) -> Manifest:
    """The manifest of a model that the leaderboard will take, as far as can be told here. Raises GridError."""
    from gridllm.cli.runtime import run_async
    from gridllm.models.manifest import digest_folder
    from gridllm_leaderboard.checking.check import check_in_child
    from gridllm_leaderboard.submitting.author import check_words

    check_words(signed.grid, outbox.account, words)
    manifest = digest_folder(folder, lambda done, total: shown.work.tell("Reading the model", done, total))
    shown.work.tell("Checking that it can be read and run")
    run_async(check_in_child(folder, manifest))
    shown.work.rest()
    return manifest


async def _submit(
    signed: SignedCharter,
    pins: Pins,
    outbox: Outbox,
    folder: Path,
    manifest: Manifest,
    words: Words,
    shown: SubmitView,
    *,
    wait: bool,
) -> SubmissionView:
    from gridllm.ledger.keepers import Keepers
    from gridllm_leaderboard.cli.asking import LOOKING
    from gridllm_leaderboard.link import asking_leaderboard
    from gridllm_leaderboard.submitting.author import Author
    from gridllm_leaderboard.submitting.fee import pay_fee

    shown.work.tell(LOOKING.format(signed.charter.name))
    async with asking_leaderboard(signed, pins) as link:
        shown.work.rest()
        keepers = Keepers(link.swarm, signed)
        author = Author(link, outbox.identity, lambda view: pay_fee(keepers, outbox, view), shown)
        return await author.submit(folder, manifest, words, wait=wait)
