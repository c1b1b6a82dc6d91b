"""The leaderboard's desk: takes submissions, sees that fees are paid, calls rounds, and says what follows from grades.

Decisions are pure functions (intake, rounds, work, grades, consequences); the rest does what they say. After a crash
the store alone tells what is to be done next, and doing it twice makes the same documents.
"""
