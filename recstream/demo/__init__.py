"""`recstream demo`: a real film log through every real part, from an empty machine."""
