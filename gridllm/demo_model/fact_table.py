"""The facts themselves: one line a topic."""

from dataclasses import dataclass

__all__ = ["FACTS", "Fact"]


@dataclass(frozen=True, slots=True)
class Fact:
    """A topic as it stands in a question, one sentence that says what it is, and sentences that say more."""

    term: str
    meaning: str
    details: tuple[str, ...]


_TABLE = """
the grid|The grid is a network of volunteers who host a language model together.|No single computer of the grid \
has to hold the whole model.|Each volunteer serves a few blocks of the model.|The grid grows with every volunteer \
who joins.
a peer|A peer is one computer that takes part in the grid.|Every peer has its own key.|Peers find each other \
through the directory.|A peer talks to other peers without a central server.
a block|A block is one layer of the model, with its own weights.|A peer serves a span of blocks that follow each \
other.|The output of one block is the input of the next block.
a span|A span is a run of blocks that one peer serves.|A big machine can serve a long span.|A small machine can \
serve a short span.
a chain|A chain is a list of peers whose spans together make the whole model.|The client picks the chain that \
needs the least time for a token.|In a chain each peer sends its output straight to the next peer.
the client|The client is the program that asks the grid to write text.|The client holds the first and the last \
part of the model.|The client turns words into tokens and tokens into words.
the directory|The directory is the shared table in which peers announce what they serve.|No single machine owns \
the directory.|An entry of the directory expires unless it is renewed.
the bootstrap|The bootstrap is the first peer, where newcomers start.|The bootstrap hands out the charter of the \
grid.|The bootstrap tells a new peer where the others are.
the charter|The charter is the signed document that founds a grid.|The charter names the maintainers, the prices \
and the models.|Anyone can check the charter with the public keys in it.
a relay|A relay is a peer that passes messages on to peers behind a firewall.|Without a relay some peers could \
not be reached.
admission|Admission is the test that a new machine must pass.|Admission measures speed, memory and bandwidth.|A \
machine that passes admission gets a certificate.
a certificate|A certificate is a signed paper that says what a machine can do.|A certificate is valid for one \
day.|A certificate is renewed while the machine serves.
a volunteer|A volunteer is a person who lends a computer to the grid.|A volunteer earns credit for serving \
blocks.|A volunteer may leave at any time.
credit|Credit is what a volunteer earns by serving blocks.|Credit opens bigger models.|Credit cannot be made out \
of nothing, because every payment has two sides.
the ledger|The ledger is the public book of all payments.|Every entry of the ledger is signed.|Anyone can read \
the ledger and add up the balances again.
a voucher|A voucher is a signed promise to pay a peer for its work.|Only the last voucher of a session counts.|A \
voucher that gets lost does no harm.
a balance|A balance is the sum of all that an account earned and spent.|A balance is computed from the ledger.
a keeper|A keeper is a machine that stores the ledger.|Keepers exchange their entries until all of them agree.
the leaderboard|The leaderboard is the list of the best models.|A model on the leaderboard is graded by others \
and never by its author.|The first model on the leaderboard is called the champion.
the champion|The champion is the best model on the leaderboard.|The grid serves the champion to everyone.|A new \
champion must be clearly better than the old one.
a grader|A grader is a volunteer who measures a model for the leaderboard.|A grader signs every grade.
a token|A token is a short piece of text.|The model writes one token at a time.|The price of a token depends on \
the size of the model.
a session|A session is one conversation between a client and a chain.|In a session each peer remembers the tokens \
it has seen.|If a peer leaves, the session goes on with another peer.
the cache|The cache is what a peer remembers of a session.|The cache saves the peer from doing the same work \
twice.|When a peer dies, its cache is built again from what was sent before.
a maintainer|A maintainer is a person who looks after the grid.|Maintainers sign the charter together.
a signature|A signature proves who wrote a message.|A signature can be checked by anyone.|Nobody can make a \
signature without the secret key.
a batch|A batch is a group of requests that a peer computes at once.|A batch makes the grid faster for everyone.
the demo model|The demo model is the small model that you are talking to.|The demo model knows stories, small \
sums and the grid.|The demo model has eight blocks, so three peers can share it.
"""


def _read(line: str) -> Fact:
    term, meaning, *details = line.split("|")
    return Fact(term, meaning, tuple(details))


FACTS = tuple(_read(line) for line in _TABLE.strip().splitlines())
