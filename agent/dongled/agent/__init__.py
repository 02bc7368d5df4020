"""The daemon: meetings, the grant protocol, SFU adapters, policy, control socket, CLI."""
