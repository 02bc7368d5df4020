"""Peer connections: a stream published, a stream subscribed to, a data channel for the bus.

All of it runs on the event loop. What is reached into of aiortc is in ``seams`` alone.
"""

from dongled.media.webrtc.buslink import BusLink
from dongled.media.webrtc.connection import IceSettings, TurnServer
from dongled.media.webrtc.publication import Publication, PublicationStats
from dongled.media.webrtc.subscription import Subscription, SubscriptionStats

__all__ = [
    "BusLink",
    "IceSettings",
    "Publication",
    "PublicationStats",
    "Subscription",
    "SubscriptionStats",
    "TurnServer",
]
