"""Who is who: one Ed25519 key per participant, and the documents signed with it."""
