"""Everything that can be configured."""

from __future__ import annotations

from typing import Annotated

from dongled.config.base import Extra, Section
from dongled.config.schema.audit import AuditSettings
from dongled.config.schema.authorizer import AuthorizerSettings
from dongled.config.schema.control import ControlSettings
from dongled.config.schema.enrolment import EnrolmentSettings
from dongled.config.schema.ice import IceSettings
from dongled.config.schema.meeting import MeetingSettings
from dongled.config.schema.metrics import MetricsSettings
from dongled.config.schema.presence import PresenceSettings
from dongled.config.schema.stream import StreamSettings
from dongled.config.schema.terminal import StateSettings, TerminalSettings
from dongled.config.schema.token import DataTokenSettings, TokenSettings
from dongled.config.schema.trust import TrustSettings


class Settings(Section):
    """Everything. ``token`` is there whenever a meeting is encrypted."""

    terminal: TerminalSettings = TerminalSettings()
    token: TokenSettings | None = None
    data_token: Annotated[DataTokenSettings | None, Extra()] = None
    trust: TrustSettings = TrustSettings()
    authorizer: AuthorizerSettings = AuthorizerSettings()
    presence: PresenceSettings = PresenceSettings()
    audit: AuditSettings = AuditSettings()
    enrolment: Annotated[EnrolmentSettings | None, Extra()] = None
    state: StateSettings = StateSettings()
    control: ControlSettings = ControlSettings()
    metrics: MetricsSettings = MetricsSettings()
    ice: IceSettings = IceSettings()
    stream: tuple[StreamSettings, ...] = ()
    meeting: tuple[MeetingSettings, ...] = ()

    def stream_by_id(self, stream: str) -> StreamSettings:
        """The stream with this id; raises KeyError."""
        for candidate in self.stream:
            if candidate.id == stream:
                return candidate
        raise KeyError(stream)
