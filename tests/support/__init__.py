"""What tests share: builders, fakes, strategies, servers, and jobs that really run."""
