"""Janus (meetecho, 1.x): VideoRoom carries the media, TextRoom the bus."""
