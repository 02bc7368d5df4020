"""Who may have a key: certificates, trusted time, the allow-list."""
