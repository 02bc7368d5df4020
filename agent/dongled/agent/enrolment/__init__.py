"""Certificates from the customer's platform, by EST (RFC 7030), and their renewal."""
