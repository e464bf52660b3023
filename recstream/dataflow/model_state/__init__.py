"""What was learned from the stream: taken up at start, written at the checkpoint, shared by workers."""
