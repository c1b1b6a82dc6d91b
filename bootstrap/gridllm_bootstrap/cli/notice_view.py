"""Notices and minimums in lines for people."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from gridllm.charter.board import NoticeBoard
from gridllm.charter.contest import Crown, Listing, Rules
from gridllm.charter.document import Charter, SignedCharter
from gridllm.charter.minimums import Admission
from gridllm.charter.notices import Amendment, Revocation
from gridllm.cli.minimums_view import admission_lines
from gridllm.cli.show import charter_facts, facts_text, print_json, room, stdout
from gridllm.ledger.statements import Grant, peer_of_account
from gridllm.quantities import spell_credits
from gridllm_bootstrap.cli.contest_view import contest_facts, moment
from gridllm_bootstrap.home import Home
from gridllm_bootstrap.notices.cosign import Case, look
from gridllm_bootstrap.notices.minimums import rows
from gridllm_bootstrap.paper import Content


def notice_facts(content: Content, charter: Charter) -> dict[str, str | list[str]]:
    """What a notice says."""
    if isinstance(content, Revocation):
        return {
            "Revocation": content.peer,
            "Grid": charter.name,
            "Why": content.why,
            "Issued": moment(content.issued),
            "No new certificate": f"before {moment(content.until)}",
        }
    if isinstance(content, Amendment):
        return {
            "Amendment": f"number {content.serial}",
            "Grid": charter.name,
            "Issued": moment(content.issued),
            "Admission": admission_lines(content.admission),
        }
    if isinstance(content, Grant):
        return {
            "Grant": f"{spell_credits(content.micro)} credits",
            "Grid": charter.name,
            "To": [peer_of_account(content.account), f"account {content.account}"],
            "Why": content.reason,
            "Issued": moment(content.issued),
        }
    if isinstance(content, Rules | Listing | Crown):
        return contest_facts(content, charter)
    return {"Charter": content.name}


def minimums_table(admission: Admission) -> Text:
    """Role, figure, value and what it means. A Text: a table would fold lines at the terminal's edge."""
    lines = [("role", "figure", "at least", "what it is"), *(row.cells for row in rows(admission))]
    widths = [max(len(line[column]) for line in lines) + 2 for column in range(3)]
    text = Text(f"Admission is {admission_lines(admission)[0]}\n")
    if not admission.required:
        return Text(text.plain.rstrip())
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        text.append("".join(cells) + line[3] + "\n", style="bold" if number == 0 else "")
    text.rstrip()
    return text


def print_draft(home: Home, file: Path) -> None:
    """Show a paper that lacks signatures, and what to do with it."""
    case = look(home, file)
    print_case(case)
    print_missing(case, file)


def print_case(case: Case) -> None:
    """What a paper says, and who signed it."""
    facts = (
        charter_facts(case.paper.unsigned) if case.signed is None else notice_facts(case.paper.content, case.charter)
    )
    signers = [f"{case.charter.threshold} must sign; so far {len(case.signers)} did:", *case.signers]
    stdout().print(facts_text(facts | {"Signed by": signers}, room()))


def print_missing(case: Case, file: Path) -> None:
    """What to do with a paper that lacks signatures."""
    many = "signature is" if case.missing == 1 else "signatures are"
    console = stdout()
    console.print(f"\n{case.missing} more {many} needed. Give this file to other maintainers:  {file}", markup=False)
    console.print("Each runs gridllm bootstrap sign on it and passes it on; the last signature puts it into force.")


def print_told(told: int) -> None:
    """How many peers took a notice."""
    console = stdout()
    if told:
        console.print(f"[bold green]Posted[/]: told {told} peer{'' if told == 1 else 's'}, who pass it on.")
    else:
        console.print(
            "[bold yellow]Kept, but nobody answered[/]: it is sent as soon as this machine runs gridllm bootstrap run."
        )


def print_minimums(signed: SignedCharter, board: NoticeBoard, *, as_json: bool) -> None:
    """The minimums that hold now."""
    admission = board.admission
    if as_json:
        serial = 0 if board.amendment is None else board.amendment.serial
        print_json({"grid": signed.grid, "serial": serial, **admission.model_dump(mode="json")})
        return
    stdout().print(minimums_table(admission))
