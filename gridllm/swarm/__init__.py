"""Presence in the peer-to-peer network: calls, streams, links, signed records; the only room that knows hivemind."""
