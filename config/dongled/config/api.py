"""What the other rooms may use of the settings."""

from __future__ import annotations

from dongled.config.checks import SettingsWarning, settings_warnings
from dongled.config.errors import EX_CONFIG, ConfigError, Problem
from dongled.config.inputs import inputs, secret_sources
from dongled.config.layers import drop_ins
from dongled.config.load import Loaded, Value, default_path, find_socket, load, load_layers
from dongled.config.schema.audit import AuditSettings
from dongled.config.schema.authorizer import AuthorizerSettings
from dongled.config.schema.control import ControlSettings
from dongled.config.schema.enrolment import EnrolmentSettings
from dongled.config.schema.ice import IceSettings, TurnServer
from dongled.config.schema.meeting import MeetingSettings, SfuSettings, SinkSettings
from dongled.config.schema.metrics import MetricsSettings
from dongled.config.schema.presence import PresenceSettings
from dongled.config.schema.settings import Settings
from dongled.config.schema.stream import StreamSettings
from dongled.config.schema.terminal import StateSettings, TerminalSettings
from dongled.config.schema.token import DataTokenSettings, KeyPin, TokenPlace, TokenSettings
from dongled.config.schema.trust import TrustSettings
from dongled.config.secrets import Credential, SecretSource, read_secret

__all__ = [
    "EX_CONFIG",
    "AuditSettings",
    "AuthorizerSettings",
    "ConfigError",
    "ControlSettings",
    "Credential",
    "DataTokenSettings",
    "EnrolmentSettings",
    "IceSettings",
    "KeyPin",
    "Loaded",
    "MeetingSettings",
    "MetricsSettings",
    "PresenceSettings",
    "Problem",
    "SecretSource",
    "Settings",
    "SettingsWarning",
    "SfuSettings",
    "SinkSettings",
    "StateSettings",
    "StreamSettings",
    "TerminalSettings",
    "TokenPlace",
    "TokenSettings",
    "TrustSettings",
    "TurnServer",
    "Value",
    "default_path",
    "drop_ins",
    "find_socket",
    "inputs",
    "load",
    "load_layers",
    "read_secret",
    "secret_sources",
    "settings_warnings",
]
