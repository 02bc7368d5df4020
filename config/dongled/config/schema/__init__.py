"""The settings: what can be configured, its defaults and its limits. Descriptions end up in `config init`."""
