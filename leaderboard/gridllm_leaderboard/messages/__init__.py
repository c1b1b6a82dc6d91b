"""What crosses between the leaderboard and everyone else: unary calls and one stream, msgpack, strict.

| who | asks | answer |
|---|---|---|
| author | ``Enter``: a signed submission | ``SubmissionView``: what is to be done next |
| author | the stream ``gridllm.leaderboard.upload`` | what is lacking, then pieces (upload/wire.py) |
| author | ``Withdraw`` | ``SubmissionView`` |
| author | ``Regrade`` | ``SubmissionView``: it waits for a round again |
| anyone | ``AskSubmissions``, ``AskRank``, ``AskHistory``, ``AskRounds``, ``AskAnnulled`` | listings, a page each |
| anyone | ``AskDossier`` | every signed document about one submission |
| anyone | ``AskLines`` | items or results, by their Merkle root, a piece each |
| anyone | ``AskFile`` | a task's public files, a piece each |
| grader | ``AskWork`` | ``Work``: a round to be graded |
| grader | ``PutLines``, ``PutGrade`` | ``Taken`` |

Refusals: NotAccepted (said why in one sentence), TooSoon, Full, NotHeld, Malformed.
"""

from gridllm_leaderboard.messages.entering import (
    ENTER_CALL,
    REGRADE_CALL,
    SUBMISSIONS_CALL,
    UPLOAD_STREAM,
    WITHDRAW_CALL,
    AskSubmissions,
    Enter,
    Regrade,
    Submissions,
    SubmissionView,
    Withdraw,
)
from gridllm_leaderboard.messages.grading import (
    PUT_GRADE_CALL,
    PUT_LINES_CALL,
    WORK_CALL,
    AskWork,
    Beyond,
    PutGrade,
    PutLines,
    Taken,
    Task,
    Unable,
    Work,
)
from gridllm_leaderboard.messages.parts import (
    MAX_PAGE,
    PIECE_BYTES,
    Amount,
    Envelope,
    Key,
    Limit,
    Message,
    Offset,
    State,
    Text,
    When,
    pack,
    unpack,
)
from gridllm_leaderboard.messages.ranking import (
    HISTORY_CALL,
    RANK_CALL,
    AskHistory,
    AskRank,
    History,
    Interval,
    Rank,
    RankRow,
    Reign,
)
from gridllm_leaderboard.messages.rounds import (
    ANNULLED_CALL,
    DOSSIER_CALL,
    FILE_CALL,
    LINES_CALL,
    ROUNDS_CALL,
    Annulled,
    AnnulledRound,
    AskAnnulled,
    AskDossier,
    AskFile,
    AskLines,
    AskRounds,
    Dossier,
    Piece,
    Rounds,
    RoundView,
)

__all__ = [
    "ANNULLED_CALL",
    "DOSSIER_CALL",
    "ENTER_CALL",
    "FILE_CALL",
    "HISTORY_CALL",
    "LINES_CALL",
    "MAX_PAGE",
    "PIECE_BYTES",
    "PUT_GRADE_CALL",
    "PUT_LINES_CALL",
    "RANK_CALL",
    "REGRADE_CALL",
    "ROUNDS_CALL",
    "SUBMISSIONS_CALL",
    "UPLOAD_STREAM",
    "WITHDRAW_CALL",
    "WORK_CALL",
    "Amount",
    "Annulled",
    "AnnulledRound",
    "AskAnnulled",
    "AskDossier",
    "AskFile",
    "AskHistory",
    "AskLines",
    "AskRank",
    "AskRounds",
    "AskSubmissions",
    "AskWork",
    "Beyond",
    "Dossier",
    "Enter",
    "Envelope",
    "History",
    "Interval",
    "Key",
    "Limit",
    "Message",
    "Offset",
    "Piece",
    "PutGrade",
    "PutLines",
    "Rank",
    "RankRow",
    "Regrade",
    "Reign",
    "RoundView",
    "Rounds",
    "State",
    "SubmissionView",
    "Submissions",
    "Taken",
    "Task",
    "Text",
    "Unable",
    "When",
    "Withdraw",
    "Work",
    "pack",
    "unpack",
]
