"""Meetings: joined, lost, joined again; each stay is a session, encrypted or plain."""
