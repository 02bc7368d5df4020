"""Values that samples of several tables show."""

UUID = "urn:uuid:00000000-0000-4000-8000-000000000000"
