"""What the other rooms may use of the settings."""

from __future__ import annotations

from dongled.config.checks import SettingsWarning, settings_warnings
from dongled.config.errors import EX_CONFIG, ConfigError, Problem
from dongled.config.load import Loaded, Value, default_path, load, load_layers
from dongled.config.schema import (
    ControlSettings,
    EnrolmentSettings,
    IceSettings,
    KeyPin,
    MeetingSettings,
    Settings,
    SfuSettings,
    SinkSettings,
    StateSettings,
    StreamSettings,
    TerminalSettings,
    TokenSettings,
    TrustSettings,
    TurnServer,
)
from dongled.config.secrets import Credential, SecretSource, read_secret

__all__ = [
    "EX_CONFIG",
    "ConfigError",
    "ControlSettings",
    "Credential",
    "EnrolmentSettings",
    "IceSettings",
    "KeyPin",
    "Loaded",
    "MeetingSettings",
    "Problem",
    "SecretSource",
    "Settings",
    "SettingsWarning",
    "SfuSettings",
    "SinkSettings",
    "StateSettings",
    "StreamSettings",
    "TerminalSettings",
    "TokenSettings",
    "TrustSettings",
    "TurnServer",
    "Value",
    "default_path",
    "load",
    "load_layers",
    "read_secret",
    "settings_warnings",
]
