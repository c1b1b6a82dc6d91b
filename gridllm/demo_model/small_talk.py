"""Greetings, common questions with fixed answers, and what to say to a question from outside the corpus."""

import random

__all__ = ["small_talk"]

# Questions, divided by bars -> the answer.
ANSWERS = {
    "Hello!|Hi!|Hi there!|Good morning!|Hey|Hello, who is there?": (
        "Hello! I can tell stories, do small sums and talk about the grid."
    ),
    "Who are you?|What is your name?|What are you?|Are you a person?": (
        "I am the demo model of the grid. I am small, but many of us make a crowd."
    ),
    "What can you do?|How can you help me?|Help": (
        "I can tell a story, do a small sum, or explain how the grid works."
    ),
    "Thank you!|Thanks!|That was nice.|Well done!": (
        "You are welcome. Ask me anything about the grid, or for a story."
    ),
    "Goodbye!|Bye!|See you later.|Good night.": ("Goodbye! Come back soon."),
    "How are you?|How are you today?|Are you well?": ("I am well, thank you. All my blocks are running."),
    "How does the grid work?|How does it work?|Explain how the grid works.": (
        "The model is cut into blocks, and each peer serves a few of them. A token goes through a chain of peers, "
        "from the first block to the last."
    ),
    "How do I join the grid?|How can I become a volunteer?|Can I join?": (
        "Ask the bootstrap for the charter, pass admission, and serve a few blocks. Then you earn credit."
    ),
    "Why should I join the grid?|What do I get for it?": (
        "You earn credit for every token that you serve, and credit opens bigger models."
    ),
    "What happens when a peer leaves?|What if a peer dies?": (
        "Another peer takes its place, and the session goes on. You may see a short pause, but no word is lost."
    ),
    "Who owns the grid?|Who is in charge of the grid?": (
        "Nobody owns the grid. Maintainers sign the charter, and volunteers serve the blocks."
    ),
    "Who pays for the grid?|Is the grid free?": (
        "Volunteers lend their computers and earn credit. The client pays the peers with vouchers."
    ),
    "How is a model ranked?|How does a model get to the leaderboard?": (
        "Its author submits it, and graders who are not its author measure it. The best one becomes the champion."
    ),
    "Do I need a big computer?|Is my computer good enough?": (
        "A small computer can serve a short span. Admission measures what your machine can do."
    ),
    "Where are you running?|Where do you live?": (
        "My blocks are spread over the peers of a chain. No single one of them has to hold all of me."
    ),
}
BEYOND = (
    "What is the capital of France?",
    "Who won the game last night?",
    "Write a program in Python.",
    "What will the weather be tomorrow?",
    "Who is the president?",
    "Translate this into German.",
    "What is the meaning of life?",
    "How far away is the moon?",
    "When was the war?",
    "What should I cook tonight?",
    "Can you drive a car?",
    "What is quantum physics?",
    "Tell me the news.",
    "Which stocks should I buy?",
    "How old is the universe?",
)
BEYOND_ANSWER = "I do not know that. I am a small model: I know stories, small sums and the grid."


def small_talk(rng: random.Random) -> tuple[str, str]:
    """A question that needs no slots, and its answer."""
    if rng.random() < 0.2:
        return rng.choice(BEYOND), BEYOND_ANSWER
    questions = rng.choice(tuple(ANSWERS))
    return rng.choice(questions.split("|")), ANSWERS[questions]
