"""Contract suites run on fakes and on the real thing."""
