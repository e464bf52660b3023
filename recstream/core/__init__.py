"""Pure domain code: what a recommendation is made of. No clock, environment, randomness, logging or I/O."""
