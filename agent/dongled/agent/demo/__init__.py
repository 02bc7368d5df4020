"""An encrypted meeting on one machine, with an eavesdropper who sees nothing."""
