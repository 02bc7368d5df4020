"""The control socket: Varlink, authorised by peer credentials."""
